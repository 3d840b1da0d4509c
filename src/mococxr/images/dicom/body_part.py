"""BodyPartExamined -> does it name the chest?

The element is a word of PS3.16 annex L, or what a technician or a translator made of it, in any language. What names no
chest is another part of the body; a file that names nothing counts as a chest image, since half of these name nothing.
"""

from __future__ import annotations

import re
import unicodedata
from contextlib import suppress

_CHEST = re.compile(
    r"CHEST|CXR|THORA|T.{1,3}RA[XCK]|LUNG|PULM|POUMON|POLMON|POITRIN|PECHO|PETTO|BRUST|BORST|BROST|PIERSI|"
    r"GOGUS|AKCIGER|HEART|MEDIASTIN|TRUNK|TRONC|TORSO|BODY|GANZK|BABYGRAM|ГРУД|ЛЕГК|ОГК|胸|肺"
)
"""Chest, lungs, or a larger part that holds them: English, German, French, Spanish, Portuguese, Italian, Dutch, Swedish,
Polish, Turkish, Russian, Chinese, Japanese; a letter whose accent was lost on the way is any sign."""
_SPINE = re.compile(r"SPINE|SPINAL|WIRBEL|BWS|RACHIS|COLUMN|COLONN|VERTEB|LUMB")
_SURE = re.compile(r"CHEST|LUNG")
_NOTHING = frozenset(
    ("", "NA", "NONE", "NULL", "UNKNOWN", "UNDEFINED", "UNSPECIFIED", "OTHER", "DEFAULT", "ANY", "ALL")
)
_KNOWN = frozenset(
    re.findall(
        r"\S+",
        "ABDOMEN ABDOMENPELVIS ANKLE ARM BACK BREAST CALCANEUS CLAVICLE COCCYX CSPINE ELBOW EXTREMITY FACE FEMUR FINGER "
        "FOOT FOREARM HAND HEAD HEADNECK HIP HUMERUS JAW KNEE LEG LSPINE MANDIBLE MAXILLA NECK NOSE ORBIT PATELLA PELVIS "
        "RADIUS RIB RIBS SACRUM SCAPULA SHOULDER SKULL SPINE STERNUM THIGH THUMB TIBIA TMJ TOE TOOTH TSPINE ULNA WRIST",
    )
)
"""Words that may stand in a list; anything else may be a name."""


def names_chest(part: str | None) -> bool:
    """Whether the element names the chest, a larger part, or nothing."""
    part = part or ""
    with suppress(UnicodeError):  # the standard allows no such letters here, so it was not decoded
        part = part.encode("latin-1").decode("utf-8")
    plain = unicodedata.normalize("NFKD", part).upper()
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    if re.sub(r"[\W_]", "", plain) in _NOTHING:
        return True
    if _SPINE.search(plain) and not _SURE.search(plain):
        return False
    return bool(_CHEST.search(plain))


def shown(part: str) -> str:
    """The part as it may stand in a list, with a colon before it; nothing where it is no known word."""
    word = part.strip().upper()
    return f": {word}" if word in _KNOWN else ""
