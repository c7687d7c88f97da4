//! Tests of COCO annotations.

use super::*;

/// Categories 7 and 3, listed out of order; one crowd; boxes inside, over the border, empty, repeated and of no image.
fn coco(folder: &Folder) {
    for name in ["a", "b", "turned"] {
        folder.picture(&format!("images/train2017/{name}.png"), 40, 20);
    }
    folder.text(
        "annotations/instances_train2017.json",
        r#"{"info": {"year": 2017}, "licenses": [],
        "images": [
            {"id": 9, "file_name": "b.png", "width": 40, "height": 20, "coco_url": "x"},
            {"id": 4, "file_name": "a.png", "width": 40, "height": 20},
            {"id": 5, "file_name": "turned.png", "width": 20, "height": 40},
            {"id": 6, "file_name": "gone.png", "width": 40, "height": 20},
            {"id": 8, "file_name": "a.png", "width": 40, "height": 20}],
        "annotations": [
            {"id": 1, "image_id": 9, "category_id": 7, "bbox": [10, 5, 20, 10], "iscrowd": 0, "segmentation": [[1, 2]]},
            {"id": 2, "image_id": 9, "category_id": 3, "bbox": [30, 10, 20.5, 20], "iscrowd": 1, "area": 3.5},
            {"id": 3, "image_id": 9, "category_id": 3, "bbox": [5, 5, 0, 10]},
            {"id": 4, "image_id": 9, "category_id": 7, "bbox": [10, 5, 20, 10]},
            {"id": 5, "image_id": 99, "category_id": 7, "bbox": [1, 1, 2, 2]},
            {"id": 6, "image_id": 8, "category_id": 12, "bbox": [1, 1, 2, 2]}],
        "categories": [{"id": 7, "name": "dog", "supercategory": "animal"}, {"id": 3, "name": "cat"}]}"#,
    );
}

#[test]
fn a_coco_folder_is_opened_as_it_is() {
    let folder = Folder::new();
    coco(&folder);
    let dataset = folder.open("", Split::Train).unwrap();
    assert_eq!(dataset.names, ["cat", "dog"], "in the order of the category ids");
    assert_eq!(
        names(&dataset),
        ["images/train2017/a.png", "images/train2017/b.png"]
    );
    assert_eq!(dataset.categories, [3, 7], "results can be written with them");
    assert_eq!(
        [0, 1].map(|sample| dataset.samples[sample].image_id),
        [Some(4), Some(9)]
    );
    assert!(dataset.samples[0].labels.is_empty());
    assert_eq!(
        dataset.samples[1].labels,
        [
            Label {
                class: 1,
                bounds: [0.5, 0.5, 0.5, 0.5],
                crowd: false
            },
            Label {
                class: 0,
                bounds: [0.875, 0.75, 0.25, 0.5],
                crowd: true
            },
        ]
    );
    assert_eq!(dataset.dropped_boxes, 3, "empty, repeated, of no image");
    let mut reasons: Vec<_> = dataset
        .skipped
        .iter()
        .map(|skipped| skipped.reason.to_string())
        .collect();
    reasons.sort();
    assert_eq!(
        reasons,
        [
            "annotation 6 has the unknown category 12",
            "the annotations are for 20 x 40 pixels, the image has 40 x 20",
            "the image does not exist",
        ]
    );
    assert!(matches!(
        folder.open("", Split::Val),
        Err(DatasetError::NoSplit { .. })
    ));
}

#[test]
fn a_description_may_name_coco_annotations() {
    let folder = Folder::new();
    coco(&folder);
    let expected = folder.open("", Split::Train).unwrap().fingerprint();
    let yaml = "train: images/train2017\nannotations:\n  train: annotations/instances_train2017.json\n";
    assert_eq!(folder.open_as(yaml).unwrap().fingerprint(), expected);
    assert_eq!(
        folder
            .open_as(&format!("{yaml}names: [cat, dog]"))
            .unwrap()
            .fingerprint(),
        expected
    );
    let error = folder
        .open_as(&format!("{yaml}names: [dog, cat]"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("'names' differ from the categories of"), "{error}");
    folder.text("annotations/instances_train2017.json", "{\"images\": []}");
    let error = folder.open_as(yaml).unwrap_err().to_string();
    assert!(
        error.contains("instances_train2017.json: missing field `annotations`"),
        "{error}"
    );
}

#[test]
fn lists_of_coco_with_label_files_have_its_categories() {
    let folder = Folder::new();
    folder.picture("coco/images/val2017/000000000139.png", 40, 20);
    folder.text("coco/labels/val2017/000000000139.txt", "79 0.5 0.5 0.2 0.2\n");
    let categories = |list: &str, classes: usize| {
        folder.text(&format!("coco/{list}"), "./images/val2017/000000000139.png\n");
        folder.text("coco/data.yaml", &format!("val: {list}\nnc: {classes}\n"));
        folder.open("coco/data.yaml", Split::Val).unwrap().categories
    };
    for list in ["val2017.txt", "test-dev2017.txt"] {
        let coco = categories(list, 80);
        assert_eq!((coco.len(), coco[0], coco[79]), (80, 1, 90), "{list}");
        let gap = coco.windows(2).find(|pair| pair[1] > pair[0] + 1);
        assert_eq!(gap, Some(&[11, 13][..]), "{list}");
    }
    for (list, classes) in [("val2017.txt", 81), ("mine.txt", 80)] {
        let numbers: Vec<u64> = (1..=classes as u64).collect();
        assert_eq!(categories(list, classes), numbers, "{list}");
    }
}

#[test]
fn crowds_are_not_trained_on() {
    let folder = Folder::new();
    coco(&folder);
    let dataset = std::sync::Arc::new(folder.open("", Split::Train).unwrap());
    let cache = crate::PictureCache::new(dataset, 64, 0);
    let request = crate::SampleRequest {
        epoch: 0,
        sample: SampleId(1),
        mosaic: false,
        image_size: 64,
    };
    let image = crate::Augmenter::new(crate::AugmentConfig::off(), 0).image(&cache, request);
    assert_eq!(
        image.boxes.iter().map(|target| target.class).collect::<Vec<_>>(),
        [1]
    );
}
