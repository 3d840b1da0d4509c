"""BodyPartExamined -> another part of the body than the chest, or not.

The element is a word of PS3.16 annex L, or what a technician or a translator made of it, in any language. What names no
chest is another part of the body; a file that names nothing counts as a chest image, since half of these name nothing.
"""

from __future__ import annotations

import re
import unicodedata
from contextlib import suppress

from mococxr.images.dicom.elements import Elements

_CHEST = re.compile(
    r"CHEST|CXR|THORA|T.{1,3}RA[XCK]|LUNG|PULM|POUMON|POLMON|POITRIN|PECHO|PETTO|BRUST|BORST|BROST|BRYST|KEUHK|"
    r"MELLKAS|PIERSI|HRUD|GOGUS|AKCIGER|NGUC|DADA|ΘΩΡΑΚ|HEART|MEDIASTIN|TRUNK|TRONC|TORSO|BODY|GANZK|BABYGRAM|ГРУД|ЛЕГК|ОГК|胸|肺"
)
"""Chest, lungs, or a larger part that holds them: English, German, French, Spanish, Portuguese, Italian, Dutch, Swedish,
Danish, Finnish, Hungarian, Polish, Czech, Turkish, Vietnamese, Malay, Greek, Russian, Chinese, Japanese; a letter whose
accent was lost on the way is any sign."""
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
_CHEST_CODES = frozenset(("51185008", "T-D3000", "39607008", "T-28000", "80891009", "T-32000", "72410000", "T-D3300"))
"""Chest, lung, heart and mediastinum, by SNOMED CT and its older form."""


def other_part(elements: Elements) -> str | None:
    """The part of the body where the header names another than the chest: a word of the standard, or `unknown`.

    BodyPartExamined says it, else the first AnatomicRegionSequence item.
    """
    part = elements.text("BodyPartExamined")
    regions = elements.items("AnatomicRegionSequence")
    if part is None and regions and regions[0].text("CodeValue") not in _CHEST_CODES:
        part = regions[0].text("CodeMeaning")
    if part is None or _names_chest(part):
        return None
    return part.upper() if part.upper() in _KNOWN else "unknown"


def says_chest(text: str) -> bool:
    """Whether a text names the chest or a larger part, in words.

    >>> says_chest("Thorax p.a."), says_chest("HAND"), says_chest("unknown")
    (True, False, False)
    """
    return _is_something(_plain(text)) and _names_chest(text)


def _names_chest(part: str) -> bool:
    """Whether a text names the chest, a larger part, or nothing."""
    plain = _plain(part)
    if not _is_something(plain):
        return True
    if _SPINE.search(plain) and not _SURE.search(plain):  # before the chest: "thoracic spine" holds its word
        return False
    return bool(_CHEST.search(plain))


def _is_something(plain: str) -> bool:
    return re.sub(r"[\W_]", "", plain) not in _NOTHING


def _plain(part: str) -> str:
    """A text in capitals without accents."""
    with suppress(UnicodeError):  # UTF-8 where the standard allows ASCII alone, so read as Latin-1
        part = part.encode("latin-1").decode("utf-8")
    plain = unicodedata.normalize("NFKD", part).upper()
    return "".join(letter for letter in plain if not unicodedata.combining(letter))
