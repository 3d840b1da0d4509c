"""Findings of one image -> a DICOM structured report (TID 1500), the same bytes whenever it is made again."""

from __future__ import annotations

import datetime
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mococxr.classifier.findings import Finding
from mococxr.gateway.findings import Algorithm, uid_of
from mococxr.version import VERSION

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pydicom.sr.coding import Code

MAKER = "MoCo-CXR"
RESEARCH = "Research use only: not for diagnosis"
SERIES = 9171
"""Number of the report's series in the study: behind those of devices."""
_NEEDED = (
    "StudyID", "AccessionNumber", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "PatientName", "PatientID",
    "ReferringPhysicianName",
)  # fmt: skip
"""Elements that highdicom copies; an image may lack them, and a report may have them empty."""
_DESCRIBED = {"PatientOrientation": ("111043", "111044"), "ImagerPixelSpacing": ("111026", "111066")}
"""Elements of an image that its entry in the library repeats -> the codes of the items there (PS3.16 TID 1603)."""
_STAND_INS = {"PatientOrientation": ["L", "F"], "ImagerPixelSpacing": [1, 1]}
_PRIVATE = "99MOCOCXR"
# SNOMED CT, by the letters of what a target is called
_CODES = {
    "pleuraleffusion": ("60046008", "Pleural effusion"), "effusion": ("60046008", "Pleural effusion"),
    "cardiomegaly": ("8186001", "Cardiomegaly"), "pneumothorax": ("36118008", "Pneumothorax"),
    "pneumonia": ("233604007", "Pneumonia"), "atelectasis": ("46621007", "Atelectasis"),
    "consolidation": ("95436008", "Lung consolidation"), "edema": ("19242006", "Pulmonary edema"),
    "pulmonaryedema": ("19242006", "Pulmonary edema"), "tb": ("154283005", "Pulmonary tuberculosis"),
    "tuberculosis": ("154283005", "Pulmonary tuberculosis"), "fracture": ("125605004", "Fracture"),
}  # fmt: skip


@dataclass(frozen=True)
class Report:
    """What a report says.

    Args:
        head: header of the image (pydicom), as the archive has it.
        algorithm: the model.
        findings: one or more.
        at: when the image was scored, ISO 8601.
        warning: a remark on the image, which the report repeats.
    """

    head: Dataset
    algorithm: Algorithm
    findings: Sequence[Finding]
    at: str
    warning: str | None = None

    def uid(self, *what: str) -> str:
        """The UID of the report (no words) or of what belongs to it."""
        return uid_of(str(self.head.SOPInstanceUID), self.algorithm.name, self.algorithm.version, *what)


def read_head(data: bytes) -> Dataset:
    """The header of an image's file, with what reports copy from it, as Unicode.

    Raises:
        ImageError: it cannot be read.
    """
    import pydicom

    from mococxr.errors import ImageError

    try:
        head = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True)
        for keyword in _NEEDED:
            value = head.get(keyword)
            setattr(head, keyword, "" if value is None else value)
        head.decode()
        head.SpecificCharacterSet = "ISO_IR 192"
    except Exception as error:  # pydicom's own, and what broken values make of Python's
        raise ImageError(f"a header that cannot be read ({type(error).__name__})") from error
    return head


def structured_report(report: Report) -> Dataset:
    """The report: per finding its probability, threshold and decision, with model and image; preliminary, unverified.

    Raises:
        ImageError: the header lacks what no report can do without.
    """
    from highdicom.sr import Comprehensive3DSR, MeasurementReport
    from pydicom.sr.codedict import codes

    content = MeasurementReport(
        observation_context=_observer(report),
        procedure_reported=_code("399208008", "SCT", "Plain chest X-ray"),
        imaging_measurements=[_group(report, finding) for finding in report.findings],
        title=codes.DCM.ImagingMeasurementReport,
        referenced_images=[_described(report.head)],
    )
    _without_unknown(content, report.head)
    made = Comprehensive3DSR(
        evidence=[report.head],
        content=content,
        series_instance_uid=report.uid("report series"),
        sop_instance_uid=report.uid(),
        series_number=SERIES,
        is_complete=True,
        is_final=False,
        is_verified=False,
        **about(report, f"{report.algorithm.name} (research use only)"),
    )
    return fixed(made, report.at)


def about(report: Report, series: str) -> dict[str, Any]:
    """What a report and its picture have in common, as arguments of highdicom."""
    at = datetime.datetime.fromisoformat(report.at)
    return {
        "instance_number": 1,
        "manufacturer": MAKER,
        "manufacturer_model_name": report.algorithm.name[:64],
        "software_versions": VERSION,
        "device_serial_number": report.algorithm.version,
        "series_description": series[:64],
        "content_date": at.date(),
        "content_time": at.time(),
        "series_date": at.date(),
        "series_time": at.time(),
        "specific_character_set": "ISO_IR 192",
    }


def fixed(made: Dataset, at: str) -> Dataset:
    """The object without what changes from one making to the next: it was made when the image was scored."""
    for equipment in made.get("ContributingEquipmentSequence", []):
        equipment.ContributionDateTime = at[:19].translate({ord(letter): None for letter in "-:T"})
    made.InstanceCreationDate, made.InstanceCreationTime = made.SeriesDate, made.SeriesTime
    made.InstanceCreatorUID = uid_of(MAKER)
    return made


def _described(head: Dataset) -> Dataset:
    """What the report's image library reads of an image; highdicom wants stand-ins for what the image does not say."""
    from pydicom.dataset import Dataset

    described = Dataset()
    for keyword in ("SOPClassUID", "SOPInstanceUID", "Modality", "Rows", "Columns"):
        setattr(described, keyword, head.get(keyword, ""))
    for keyword, stand_in in _STAND_INS.items():
        setattr(described, keyword, head.get(keyword) if _says(head, keyword) else stand_in)
    return described


def _without_unknown(content: Any, head: Dataset) -> None:
    """Take the items that stand-ins made out of the image library again."""
    unknown = {code for keyword, codes in _DESCRIBED.items() if not _says(head, keyword) for code in codes}
    items = list(content)
    while items:
        item = items.pop()
        inner = item.get("ContentSequence")
        if inner is not None:
            kept = [each for each in inner if each.ConceptNameCodeSequence[0].get("CodeValue") not in unknown]
            if len(kept) < len(inner):
                item.ContentSequence = kept
            items += kept


def _says(head: Dataset, keyword: str) -> bool:
    value = head.get(keyword)
    return value is not None and not isinstance(value, str) and len(value) == 2 and all(map(str, value))


def _observer(report: Report) -> Any:
    from highdicom.sr import DeviceObserverIdentifyingAttributes, ObservationContext, ObserverContext
    from pydicom.sr.codedict import codes

    device = DeviceObserverIdentifyingAttributes(
        uid=uid_of(report.algorithm.name, report.algorithm.version),
        name=MAKER,
        manufacturer_name=MAKER,
        model_name=report.algorithm.name[:64],
        serial_number=report.algorithm.version,
    )
    context = ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=device)
    return ObservationContext(observer_device_context=context)


def _group(report: Report, finding: Finding) -> Any:
    """The measurement group of one finding."""
    from highdicom.sr import (
        AlgorithmIdentification,
        MeasurementsAndQualitativeEvaluations,
        QualitativeEvaluation,
        SourceImageForMeasurementGroup,
        TrackingIdentifier,
    )

    code = code_of(finding.target)
    notes = [RESEARCH, _scale(finding)] + ([f"Warning: {report.warning}"] if report.warning else [])
    evaluations = []
    if finding.decision is not None:
        answer = ("52101004", "SCT", "Present") if finding.decision else ("272519000", "SCT", "Absent")
        evaluations.append(QualitativeEvaluation(name=code, value=_code(*answer)))
    measurements = [_number(report, _code("122157", "DCM", "Probability"), finding.probability)]
    if finding.probability_threshold is not None:
        measurements.append(_number(report, _code("122411", "DCM", "Threshold Value"), finding.probability_threshold))
    head = report.head
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=report.uid(finding.target), identifier=finding.target[:64]),
        finding_type=code,
        algorithm_id=AlgorithmIdentification(
            name=report.algorithm.name,
            version=f"model {report.algorithm.version}, mococxr {VERSION}",
            parameters=notes,
            family=_code("123110", "DCM", "Artificial Intelligence"),
            manufacturer=MAKER,
        ),
        measurements=measurements,
        qualitative_evaluations=evaluations,
        source_images=[SourceImageForMeasurementGroup(head.SOPClassUID, head.SOPInstanceUID)],
    )


def _scale(finding: Finding) -> str:
    """What kind of number the probability is, in words."""
    if finding.calibrated is None:
        return "The probability is the classifier's score, not calibrated"
    return f"The probability is calibrated; score {finding.score:.6g}"


def _number(report: Report, name: Code, value: float) -> Any:
    from highdicom.sr import Measurement, SourceImageForMeasurement

    image = SourceImageForMeasurement(report.head.SOPClassUID, report.head.SOPInstanceUID)
    unit = _code("1", "UCUM", "no units")
    return Measurement(name=name, value=float(value), unit=unit, referenced_images=[image])


def code_of(target: str) -> Code:
    """The code of a finding: SNOMED CT's where a target is called by its name, else a private one with that name.

    >>> code_of("Effusion").value, code_of("Wet socks").scheme_designator
    ('60046008', '99MOCOCXR')
    """
    letters = "".join(letter for letter in target.lower().partition("=")[0] if letter.isalpha())
    if letters in _CODES and "~" not in target and target.partition("=")[2] in ("", "1"):
        value, meaning = _CODES[letters]
        return _code(value, "SCT", meaning)
    return _code(hashlib.sha256(target.encode()).hexdigest()[:16], _PRIVATE, target[:64])


def _code(value: str, scheme: str, meaning: str) -> Code:
    from pydicom.sr.coding import Code

    return Code(value, scheme, meaning)
