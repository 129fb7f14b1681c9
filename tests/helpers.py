"""What several test modules share: small downloads in the official layouts, image files, golden texts."""

import gzip
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from PIL import Image
from refers import config

ROOT = Path(__file__).parents[1]
# timm's ViT at a small size.
PLAIN_VIT = config.Transformer(
    image_size=32,
    patch_size=8,
    width=48,
    depth=2,
    heads=3,
    mlp_width=192,
    activation="gelu",
    position="add",
    aggregation="add",
    classifier="aggregation",
    dropout=0.0,
)

NIH_2020 = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]\n"
NIH_2017 = NIH_2020.strip() + ",\n"
NIH_ROWS = (
    ("00000001_000.png", "Cardiomegaly|Hernia,0,1,58,M,PA,2682,2749,0.143,0.143"),
    ("00000001_001.png", "No Finding,1,1,58,M,AP,2000,2500,0.143,0.143"),
    ("00000002_000.png", "Pleural_Thickening,0,2,80,F,PA,2500,2048,0.171,0.171"),
)
VBD = "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max\n"
COVID = "patientid,offset,sex,age,finding,view,modality,date,filename,clinical_notes,\n"
METADATA = (
    "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns,StudyDate\n"
)
CHEXPERT = "subject_id,study_id,Atelectasis,Cardiomegaly,Consolidation,Edema,Enlarged Cardiomediastinum,Fracture,Lung Lesion,Lung Opacity,No Finding,Pleural Effusion,Pleural Other,Pneumonia,Pneumothorax,Support Devices\n"


def write_image(path: Path, width: int = 12, height: int = 10) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (width, height)).save(path)


def write_text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content.encode()) if path.suffix == ".gz" else content.encode())


def make_nih(folder: Path, header: str = NIH_2020, present: tuple = (0, 1, 2)) -> Path:
    end = "," if header == NIH_2017 else ""
    write_text(
        folder / "Data_Entry_2017_v2020.csv",
        header + "".join(f"{name},{row}{end}\n" for name, row in NIH_ROWS),
    )
    write_text(folder / "train_val_list.txt", "00000001_000.png\n00000001_001.png")
    write_text(folder / "test_list.txt", "00000002_000.png")
    for row in present:
        write_image(folder / f"images_{row + 1:03d}/images" / NIH_ROWS[row][0])
    return folder


def make_vinbigdata(folder: Path) -> Path:
    rows = [
        "b,No finding,14,R1,,,,",
        "b,Nodule/Mass,8,R2,1,2,3,4",
        "a,No finding,14,R1,,,,",
        "c,ILD,5,R3,1,2,3,4",
    ]
    write_text(folder / "train.csv", VBD + "\n".join(rows))
    for name in ("a.png", "b.png", "z.png"):
        write_image(folder / "train" / name, 20, 30)
    return folder


def make_shenzhen(folder: Path) -> Path:
    rows = [
        "CHNCXR_0001_0.png,Male,45,normal",
        "CHNCXR_0662_1.png,Male,45,PTB",
        "CHNCXR_0002_0.png,Male,45,normal",
    ]
    write_text(folder / "shenzhen_metadata.csv", "study_id,sex,age,findings\n" + "\n".join(rows))
    for row in rows[:2]:
        write_image(folder / "images" / row.split(",")[0])
    return folder


COVID_ROWS = (
    # name, patient, offset, finding, view, modality -> view, COVID-19, Viral
    ("a.jpg", "2", "0", "COVID-19", "PA", "X-ray", "frontal", 1, 1),
    ("b.png", "2", "3", "Pneumonia/Viral/COVID-19", "AP Supine", "X-ray", "frontal", 1, 1),
    ("c.jpeg", "3", "", '"COVID-19, ARDS"', "L", "X-ray", "lateral", 1, 1),
    ("d.jpg", "4", "", "Pneumonia/Bacterial/E.Coli", "AP", "X-ray", "frontal", 0, 0),
    ("e.jpg", "5", "", "Mycoplasma Bacterial Pneumonia", "Axial", "CT", "ct", 0, 0),
    ("f.jpg", "6", "", "No Finding", "?", "X-ray", "other", 0, None),
    ("g.jpg", "7", "", "todo", "PA", "X-ray", "frontal", None, None),
    ("h.jpg", "8", "", "", "PA", "X-ray", "frontal", None, None),
    ("i.jpg", "9", "", "SARS", "PA", "X-ray", "frontal", 0, 1),
    ("j.jpg", "10", "", "Pneumonia/Fungal/Pneumocystis", "PA", "X-ray", "frontal", 0, None),
    ("k.jpg", "11", "", "Tuberculosis", "PA", "X-ray", "frontal", 0, 0),
    ("l.jpg", "12", "", "Pneumonia/Viral/MERS-CoV", "PA", "X-ray", "frontal", 0, 1),
    ("m.jpg", "13", "", "Unknown", "PA", "X-ray", "frontal", None, None),
    ("n.jpg", "14", "", "Pneumonia", "PA", "X-ray", "frontal", 0, None),
    ("o.JPG", "15", "", '"Influenza, Streptococcus"', "PA", "X-ray", "frontal", 0, None),
)


def make_covid(folder: Path, extra: str = "") -> Path:
    rows = [
        f'{patient},{offset},M,65,{finding},{view},{modality},,{name},"two\nlines",'
        for name, patient, offset, finding, view, modality, *_ in COVID_ROWS
    ]
    write_text(
        folder / "metadata.csv", COVID + "\n".join([*rows, "20,,M,65,COVID-19,Axial,CT,,v.nii.gz,,"]) + extra
    )
    for name, *_ in COVID_ROWS:
        write_image((folder / "images" / name).with_suffix(".png"))
        (folder / "images" / name).with_suffix(".png").rename(folder / "images" / name)
    return folder


PNEUMONIA = tuple(
    f"{part}/{name}.jpeg"
    for part in ("train", "test")
    for name in ("NORMAL/IM-0115-0001", "PNEUMONIA/person7_bacteria_24", "PNEUMONIA/person8_virus_25")
)


def make_pneumonia(folder: Path, *names: str) -> Path:
    for number, name in enumerate(names or PNEUMONIA):
        # Images of different sizes, for a person is known by equal ones.
        write_image(folder / "chest_xray" / name, 12 + number)
    for part in {"train", "test", *(name.partition("/")[0] for name in names)}:
        for kind in ("NORMAL", "PNEUMONIA"):
            (folder / "chest_xray" / part / kind).mkdir(parents=True, exist_ok=True)
    return folder


def make_mimic(folder: Path) -> Path:
    jpg = folder / "mimic-cxr-jpg"
    rows = [
        "d3,10000032,50000001,CHEST,LATERAL,30,20,21800506",
        "d1,10000032,50000001,CHEST,PA,30,20,21800506",
    ]
    rows += ["d2,10000033,50000002,,LL,31,21,21800506", "d4,10000033,50000003,CHEST,,32,22,21800506"]
    write_text(jpg / "mimic-cxr-2.0.0-metadata.csv.gz", METADATA + "\n".join(rows))
    splits = ["d1,50000001,10000032,train", "d2,50000002,10000033,validate"]
    splits += ["d3,50000001,10000032,train", "d4,50000003,10000033,test"]
    write_text(
        jpg / "mimic-cxr-2.0.0-split.csv.gz", "dicom_id,study_id,subject_id,split\n" + "\n".join(splits)
    )
    labels = ["10000032,50000001,1.0,0.0,-1.0" + "," * 11, "10000033,50000002" + "," * 14]
    write_text(jpg / "mimic-cxr-2.0.0-chexpert.csv.gz", CHEXPERT + "\n".join(labels))
    for name in (
        "p10000032/s50000001/d1",
        "p10000032/s50000001/d3",
        "p10000033/s50000002/d2",
        "p10000033/s50000003/x",
    ):
        path = jpg / f"files/p10/{name}.jpg"
        write_image(path)
    return folder


def write_studies(
    folder: Path, counts: list[int], split: list[str], images: np.ndarray, tokens: np.ndarray, labels: dict
) -> list[Path]:
    """Index, store and tokens of studies of `counts` images, one entry of the other arguments per study or image.

    tokens: (studies, T) with 0 as padding; 7 and 8 are "left" and "right". labels: name -> value per study.
    """
    rows = [(f"d{study:03d}{view}", study) for study, count in enumerate(counts) for view in range(count)]
    owner = [study for _, study in rows]
    frame = pd.DataFrame(
        {
            "image_id": [name for name, _ in rows],
            "study_id": [f"s{study}" for study in owner],
            "patient_id": [f"p{study}" for study in owner],
            "view": ["lateral" if name.endswith("1") else "frontal" for name, _ in rows],
            "split": [split[study] for study in owner],
            "width": np.int32([400 + 100 * (study % 3) for study in owner]),
            "height": np.int32(500),
        }
    )
    for label, values in labels.items():
        frame[f"label:{label}"] = np.float32([values[study] for study in owner])
    frame.to_parquet(folder / "index.parquet")
    np.save(folder / "images.npy", images)
    swapped = np.where(tokens == 7, 8, np.where(tokens == 8, 7, tokens))
    np.savez(
        folder / "tokens.npz",
        study_id=np.array([f"s{study}" for study in range(len(counts))]),
        tokens=tokens.astype(np.uint16),
        swapped=swapped.astype(np.uint16),
        lengths=(tokens != 0).sum(1),
        vocabulary=50,
    )
    return [folder / name for name in ("index.parquet", "images.npy", "tokens.npz")]


# A maker of a small download by layout: DOWNLOADS["nih"](folder) -> folder.
DOWNLOADS = {
    "nih": make_nih,
    "vinbigdata": make_vinbigdata,
    "shenzhen": make_shenzhen,
    "covid": make_covid,
    "mimic": make_mimic,
    "pneumonia": make_pneumonia,
}


def write_dicom(path: Path, pixels: np.ndarray, bits: int = 12, **tags) -> Path:
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    data = FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.Rows, data.Columns = pixels.shape[-2:]
    if pixels.ndim == 3:
        data.NumberOfFrames = len(pixels)
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, tags.pop("photometric", "MONOCHROME2")
    data.BitsAllocated, data.BitsStored, data.HighBit = 8 * pixels.itemsize, bits, bits - 1
    data.PixelRepresentation = int(pixels.dtype.kind == "i")
    for name, value in tags.items():
        setattr(data, name, value)
    data.PixelData = pixels.tobytes()
    data.save_as(path, enforce_file_format=True)
    return path


def recode(path: Path, syntax: str) -> Path:
    """Encode the pixels of a DICOM file anew, in a transfer syntax as GDCM names it."""
    import gdcm

    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(path))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    writer.SetFileName(str(path))
    assert writer.Write()
    return path


def bomb(path: Path) -> None:
    """A PNG of a few bytes that claims 60,000 x 60,000 pixels."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"\0" * 99)),
    ]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def expect_golden(request, name: str, text: str) -> None:
    """Compare a text with the file in tests/golden; pytest --renew writes the file anew."""
    path = Path(__file__).with_name("golden") / name
    if request.config.getoption("--renew"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def timms_features(network, grey):
    """Features of grey images (B, 1, S, S) in [0, 1] by a network of timm with its own preprocessing, resizing aside."""
    from timm.data import resolve_model_data_config
    from torchvision.transforms import Normalize

    about = resolve_model_data_config(network)
    images = Normalize(about["mean"], about["std"])(grey.expand(-1, 3, -1, -1))
    return network.eval().forward_head(network.forward_features(images), pre_logits=True)


def in_a_child(work):
    """Run `work` in a forked process; its exit status, negative for a signal."""
    import torch

    child = os.fork()
    if not child:
        try:
            torch.set_num_threads(1)  # OpenMP's threads do not survive a fork
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def touch_downloads(root: Path) -> list[str]:
    """Empty files below a folder, as if every official download lay there; options of a dry run of the published study."""
    values = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    for source in values["sources"].values():
        optional = filter(None, [source.get("reports"), source.get("boxes")])
        for pattern in [*source["files"], source["images"], *optional]:
            path = root / source["folder"] / pattern.split("|")[0].replace("*", "0")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    for dataset in values["datasets"].values():
        if "released" in dataset:
            folder = root / values["released_lists"] / dataset["released"]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "test.txt").touch()
    (root / values["released_lists"]).with_name(values["audit"]["results"]).mkdir()
    for name in ("bert/config.json", "bert/model.safetensors", "bert/vocab.txt", "ViT-B_16.npz"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).touch()
    return [
        "--config",
        f"data_root={root}",
        f"text={{encoder: {root}/bert}}",
        f"methods={{imagenet: {{checkpoint: {root}/ViT-B_16.npz}}}}",
    ]
