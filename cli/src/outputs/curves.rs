//! Curves of a validation, from the figures of `model` to charts.

use std::path::Path;

use model::metric::{ClassCurves, ConfusionMatrix, ImageEvidence, class_curves, smooth};
use plots::{Curve, CurveChart, draw_curves, draw_matrix};

use super::save;

/// Draws the curves and both matrices into `folder`.
pub(crate) fn draw_validation(
    folder: &Path,
    names: &[String],
    images: &[ImageEvidence],
    confusion: &ConfusionMatrix,
) -> anyhow::Result<()> {
    for (name, chart) in charts(&class_curves(images, names.len()), names) {
        save(&draw_curves(&chart), folder, name)?;
    }
    let counts: Vec<Vec<f64>> = (confusion.counts().iter())
        .map(|row| row.iter().map(|&count| count as f64).collect())
        .collect();
    let matrix = draw_matrix("Confusion matrix", names, &counts, false);
    save(&matrix, folder, "confusion_matrix.png")?;
    let matrix = draw_matrix(
        "Confusion matrix, normalised",
        names,
        &confusion.normalised(),
        true,
    );
    save(&matrix, folder, "confusion_matrix_normalized.png")
}

/// The four charts with their file names.
fn charts(classes: &[ClassCurves], names: &[String]) -> [(&'static str, CurveChart); 4] {
    let f1 = |class: &ClassCurves| (0..class.precision.len()).map(|index| class.f1(index)).collect();
    [
        ("BoxPR_curve.png", precision_recall(classes, names)),
        ("BoxF1_curve.png", by_confidence("F1", classes, names, f1)),
        (
            "BoxP_curve.png",
            by_confidence("Precision", classes, names, |class| class.precision.clone()),
        ),
        (
            "BoxR_curve.png",
            by_confidence("Recall", classes, names, |class| class.recall.clone()),
        ),
    ]
}

fn precision_recall(classes: &[ClassCurves], names: &[String]) -> CurveChart {
    let curve = |class: &ClassCurves| Curve {
        name: format!(
            "{} {:.3}",
            names[class.class as usize], class.average_precisions[0]
        ),
        values: class.precision_at_recall.clone(),
    };
    let curves: Vec<Curve> = classes.iter().map(curve).collect();
    let sum: f64 = classes.iter().map(|class| class.average_precisions[0]).sum();
    let map50 = sum / classes.len().max(1) as f64;
    CurveChart {
        title: "Precision-recall curve".into(),
        x_label: "Recall".into(),
        y_label: "Precision".into(),
        all: Curve {
            name: format!("all classes {map50:.3} mAP@0.5"),
            values: mean(&curves),
        },
        classes: curves,
    }
}

fn by_confidence(
    what: &str,
    classes: &[ClassCurves],
    names: &[String],
    values: impl Fn(&ClassCurves) -> Vec<f64>,
) -> CurveChart {
    let curve = |class: &ClassCurves| Curve {
        name: names[class.class as usize].clone(),
        values: values(class),
    };
    let curves: Vec<Curve> = classes.iter().map(curve).collect();
    // As the confidence is chosen at which precision and recall are reported.
    let all = smooth(&mean(&curves));
    let (best, value) =
        (all.iter().enumerate()).fold(
            (0, 0.0),
            |best, (index, &value)| if value > best.1 { (index, value) } else { best },
        );
    let confidence = best as f64 / all.len().saturating_sub(1).max(1) as f64;
    CurveChart {
        title: format!("{what}-confidence curve"),
        x_label: "Confidence".into(),
        y_label: what.into(),
        classes: curves,
        all: Curve {
            name: format!("all classes {value:.2} at {confidence:.3}"),
            values: all,
        },
    }
}

/// The mean of all curves, point by point.
fn mean(curves: &[Curve]) -> Vec<f64> {
    let points = curves.first().map_or(0, |curve| curve.values.len());
    (0..points)
        .map(|point| curves.iter().map(|curve| curve.values[point]).sum::<f64>() / curves.len() as f64)
        .collect()
}

#[cfg(test)]
mod tests {
    use model::metric::{Correct, DetectionEvidence, summarise};

    use super::*;

    /// Two classes: one found without fault, one found half the time, with a wrong one above it.
    fn evidence() -> Vec<ImageEvidence> {
        let found = |score: f32, class: u32, right: bool| DetectionEvidence {
            score,
            class,
            correct: Correct(if right { 0x3FF } else { 0 }),
        };
        vec![
            ImageEvidence {
                detections: vec![found(0.9, 0, true), found(0.8, 1, false), found(0.6, 1, true)],
                truth_classes: vec![0, 1],
            },
            ImageEvidence {
                detections: vec![found(0.7, 0, true)],
                truth_classes: vec![0, 1],
            },
        ]
    }

    #[test]
    fn curves_say_what_the_figures_say() {
        let names = ["a", "b", "c"].map(str::to_owned);
        let [(_, precision_recall), (_, f1), (_, precision), (_, recall)] =
            charts(&class_curves(&evidence(), 3), &names);
        let metrics = summarise(&evidence(), 3);
        assert_eq!(
            precision_recall.all.name,
            format!("all classes {:.3} mAP@0.5", metrics.map50)
        );
        // Class c has no object.
        let of = |chart: &CurveChart| {
            chart
                .classes
                .iter()
                .map(|curve| curve.name.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            of(&precision_recall),
            ["a 0.995", format!("b {:.3}", metrics.per_class[1].ap50).as_str()]
        );
        assert_eq!(of(&recall), ["a", "b"]);
        // At confidence 0.65 nothing of b is right, and both of a are found.
        let at = |chart: &CurveChart, class: usize, point: usize| chart.classes[class].values[point];
        assert_eq!((at(&recall, 0, 649), at(&recall, 1, 850)), (1.0, 0.0));
        assert!((at(&recall, 1, 300) - 0.5).abs() < 1e-9 && (at(&precision, 1, 300) - 0.5).abs() < 1e-9);
        assert!((at(&f1, 1, 300) - 0.5).abs() < 1e-9);
        // Precision over recall falls only.
        let curve = &precision_recall.classes[1].values;
        assert!(curve.windows(2).all(|pair| pair[1] <= pair[0]));
    }

    #[test]
    fn without_objects_charts_are_empty() {
        let [(_, chart), ..] = charts(&class_curves(&[], 2), &["a".into(), "b".into()]);
        assert!(chart.classes.is_empty() && chart.all.values.is_empty());
    }
}
