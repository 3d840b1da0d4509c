"""Miniatures of public datasets, each in its own layout; the images are empty files."""

from __future__ import annotations

import json
from pathlib import Path

from mococxr.datasets import chexpert

FOURTEEN = ",".join(chexpert.LABELS)


def table(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def images(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def fourteen(**values: str) -> str:
    """The fourteen labels of CheXpert in their order, blank but for those named (`_` for a blank in a name)."""
    return ",".join(values.get(name.replace(" ", "_"), "") for name in chexpert.LABELS)


def mimic(root: Path) -> None:
    columns = "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns,StudyDate"
    table(
        root / "mimic-cxr-2.0.0-metadata.csv",
        columns,
        "aa-1,10000032,50414267,CHEST (PA AND LAT),PA,3056,2544,21800506",
        "aa-2,10000032,50414267,CHEST (PA AND LAT),LATERAL,3056,2544,21800506",
        "aa-3,10000032,53189527,CHEST (PA AND LAT),AP,3056,2544,21800626",
        "bb-1,11000000,59000000,CHEST,,3056,2544,21700101",
    )
    table(
        root / "mimic-cxr-2.0.0-split.csv",
        "dicom_id,study_id,subject_id,split",
        *[f"aa-{n},{study},10000032,train" for n, study in ((1, 50414267), (2, 50414267), (3, 53189527))],
        "bb-1,59000000,11000000,validate",
    )
    for name, effusion in (("chexpert", "-1.0"), ("negbio", "1.0")):
        table(
            root / f"mimic-cxr-2.0.0-{name}.csv",
            f"subject_id,study_id,{FOURTEEN}",
            f"10000032,50414267,{fourteen(Pleural_Effusion=effusion, Edema='0.0')}",
            f"10000032,53189527,{fourteen(No_Finding='1.0')}",
        )
    images(root, "files/p10/p10000032/s50414267/aa-1.jpg")


def brax(root: Path) -> None:
    table(
        root / "master_spreadsheet_update.csv",
        f"DicomPath,PngPath,PatientID,PatientSex,PatientAge,AccessionNumber,StudyDate,{FOURTEEN},"
        "ViewPosition,Rows,Columns,Manufacturer",
        f"d/1.dcm,images/id_a/Study_1/Series_1/image-1.png,id_a,F,85 or more,7,20100101,"
        f"{fourteen(Edema='1.0', Fracture='-1.0')},PA,2000,2000,2",
        f"d/2.dcm,images/id_b/Study_1/Series_1/image-2.png,id_b,M,45,7,20100301,{fourteen()},RL,2000,2000,1",
    )
    images(root, "images/id_a/Study_1/Series_1/image-1.png")


def padchest(root: Path) -> None:
    columns = (
        ",ImageID,ImageDir,StudyDate_DICOM,StudyID,PatientID,PatientBirth,PatientSex_DICOM,ViewPosition_DICOM,"
        "Projection,MethodProjection,Report,MethodLabel,Labels,Localizations"
    )
    rows = [
        ("a.png", "0", "20140915", "s1", "p1", "1930.0", "F", "PA", "['normal']"),
        ("b.png", "1", "20150915", "s2", "p1", "1930.0", "F", "L", "['nodule', ' pleural effusion', '']"),
        ("c.png", "1", "20150915", "s3", "p2", "", "O", "AP_horizontal", "['unchanged', 'cardiomegaly']"),
        ("d.png", "54", "20150915", "s4", "p3", "1950.0", "M", "PA", "['exclude', 'nodule']"),
        ("e.png", "54", "20150916", "s5", "p3", "1950.0", "M", "EXCLUDE", "['nodule']"),
        ("f.png", "54", "20150917", "s6", "p3", "1950.0", "M", "PA", "['suboptimal study']"),
        ("g.png", "54", "20150918", "s7", "p3", "1950.0", "M", "PA", "['suboptimal study', 'azygos lobe']"),
        ("h.png", "54", "20150919", "s8", "p3", "1950.0", "M", "PA", "nan"),
    ]
    lines = [
        f"{n},{image},{folder},{date},{study},{patient},{birth},{sex},POSTEROANTERIOR,{view},Manual,"
        f'"secret words",Physician,"{labels}",[]'
        for n, (image, folder, date, study, patient, birth, sex, view, labels) in enumerate(rows)
    ]
    table(root / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv", columns, *lines)
    images(root, "0/a.png", "b.png", "images-224/c.png")


def vindr(root: Path) -> None:
    """PhysioNet's form: three readers an image, but for one that has two, and a test set of consensus."""
    findings = "Cardiomegaly,Pleural effusion,No finding,Other diseases"
    table(
        root / "annotations" / "image_labels_train.csv",
        f"image_id,rad_id,{findings}",
        "f1,R1,1,0,0,0", "f1,R2,1,1,0,0", "f1,R3,0,0,1,0",
        "f2,R1,0,0,1,0", "f2,R2,0,0,1,0", "f2,R3,0,0,1,0",
        "f3,R8,1,0,0,0", "f3,R9,0,0,1,0",
    )  # fmt: skip
    table(
        root / "annotations" / "image_labels_test.csv",
        f"image_id,{findings}".removesuffix("s") + ",Only here",
        "f9,0,1,0,1,0",
    )
    images(root, "train/f1.dicom", "train/f2.png", "test/f9.dicom")


def kaggle_vindr(root: Path) -> None:
    """Kaggle's form of the same training images: a row a box."""
    table(
        root / "train.csv",
        "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max",
        "f1,Cardiomegaly,3,R1,1,1,2,2", "f1,Cardiomegaly,3,R1,5,5,6,6", "f1,Cardiomegaly,3,R2,1,1,2,2",
        "f1,Pleural effusion,10,R2,1,1,2,2", "f1,No finding,14,R3,,,,",
        *[f"f2,No finding,14,R{n},,,," for n in (1, 2, 3)],
        "f3,Cardiomegaly,3,R8,1,1,2,2", "f3,No finding,14,R9,,,,",
    )  # fmt: skip


def rsna(root: Path) -> None:
    table(
        root / "stage_2_train_labels.csv",
        "patientId,x,y,width,height,Target",
        "k-1,,,,,0", "k-2,264.0,152.0,213.0,379.0,1", "k-2,562.0,152.0,256.0,453.0,1", "k-3,,,,,0",
    )  # fmt: skip
    table(
        root / "stage_2_detailed_class_info.csv",
        "patientId,class",
        "k-1,No Lung Opacity / Not Normal", "k-2,Lung Opacity", "k-2,Lung Opacity", "k-3,Normal",
    )  # fmt: skip
    images(root, "stage_2_train_images/k-1.dcm", "stage_2_test_images/k-9.dcm")


def rsna_origin(root: Path) -> None:
    """The list that names the image of ChestX-ray14 behind each of the challenge's."""
    pairs = {"k-1": "00025669_003.png", "k-2": "00025669_004.png", "k-3": "00000007_000.png"}
    entries = [{"subset_img_id": image, "img_id": name, "subset_group": "train"} for image, name in pairs.items()]
    (root / "pneumonia-challenge-dataset-mappings_2018.json").write_text(json.dumps(entries))


def tbx11k(root: Path) -> None:
    table(root / "lists" / "TBX11K_train.txt", "health/h0001.png", "sick/s0001.png", "tb/tb0001.png", "tb/tb0002.png")
    table(root / "lists" / "TBX11K_val.txt", "tb/tb0003.png")
    table(root / "lists" / "all_train.txt", "health/h0001.png", "extra/shenzhen/CHNCXR_0001_0.png")
    kinds = [(1, "ActiveTuberculosis"), (2, "ObsoletePulmonaryTuberculosis"), (3, "PulmonaryTuberculosis")]
    content = {
        "categories": [{"id": number, "name": name} for number, name in kinds],
        "images": [{"id": 5, "file_name": "tb/tb0001.png"}, {"id": 6, "file_name": "tb/tb0003.png"}],
        "annotations": [{"image_id": image, "category_id": kind} for image, kind in ((5, 1), (5, 2), (6, 2))],
    }
    table(root / "annotations" / "json" / "TBX11K_train.json", json.dumps(content))
    images(root, "imgs/health/h0001.png", "imgs/test/test0001.png")


def tbx11k_simplified(root: Path) -> None:
    table(
        root / "data.csv",
        "fname,image_height,image_width,source,bbox,target,tb_type,image_type",
        "h0001.png,512,512,train,none,no_tb,none,healthy",
        "s0001.png,512,512,train,none,no_tb,none,sick_but_no_tb",
        "tb0001.png,512,512,train,\"{'xmin': 1}\",tb,active_tb,tb",
        "tb0001.png,512,512,train,\"{'xmin': 5}\",tb,latent_tb,tb",
        "tb0002.png,512,512,train,none,tb,none,tb",
        "tb0003.png,512,512,val,\"{'xmin': 5}\",tb,latent_tb,tb",
        "test0001.png,512,512,test,none,,,",
    )
    images(root, "images/h0001.png")


def openi(root: Path) -> None:
    for number, headings in (
        (1, ["normal"]),
        (2, ["Cardiomegaly/borderline", "Nodule"]),
        (3, ["No Indexing"]),
        (4, []),
    ):
        marks = "".join(f"<major>{heading}</major>" for heading in headings)
        pixels = "".join(
            f'<parentImage id="CXR{number}_1_IM-000{view}"><caption>secret</caption></parentImage>' for view in (1, 2)
        )
        table(
            root / "ecgen-radiology" / f"{number}.xml",
            f'<?xml version="1.0" encoding="utf-8"?><eCitation><uId id="CXR{number}"/><MedlineCitation>'
            '<AbstractText Label="FINDINGS">secret words of a report</AbstractText></MedlineCitation>'
            f"<MeSH>{marks}<automatic>opacity</automatic></MeSH>{pixels}</eCitation>",
        )
    images(root, "NLMCXR_png/CXR1_1_IM-0001.png")


def kaggle_openi(root: Path) -> None:
    table(root / "indiana_projections.csv", "uid,filename,projection", *[
        f"{number},{number}_IM-000{view}.dcm.png,{side}"
        for number in (1, 2, 3) for view, side in ((1, "Frontal"), (2, "Lateral"))
    ])  # fmt: skip
    table(
        root / "indiana_reports.csv",
        "uid,MeSH,Problems,image,indication,comparison,findings,impression",
        '1,normal,normal,Xray Chest PA and Lateral,secret,None.,"secret words",secret',
        "2,Cardiomegaly/borderline;Nodule,Cardiomegaly;Nodule,Xray,secret,None.,secret,secret",
        "3,No Indexing,No Indexing,Xray,secret,None.,secret,secret",
    )
    images(root, "images/images_normalized/1_IM-0001.dcm.png")
