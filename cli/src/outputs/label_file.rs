//! Detections as label files have objects: a line each, `class x y width height`, fractions of the picture.

use std::fmt::Write as _;

use model::nms::Detection;

/// Returns the lines for a picture of this width and height; each ends with the score if asked for.
pub(crate) fn label_lines(detections: &[Detection], (width, height): (u32, u32), scores: bool) -> String {
    let mut text = String::new();
    for found in detections {
        let [x1, y1, x2, y2] = found.xyxy;
        let (width, height) = (width as f32, height as f32);
        let bounds = [
            (x1 + x2) / 2.0 / width,
            (y1 + y2) / 2.0 / height,
            (x2 - x1) / width,
            (y2 - y1) / height,
        ];
        let score = [found.score];
        let values = bounds.iter().chain(score.iter().take(usize::from(scores)));
        // Invariant: text takes everything.
        write!(text, "{}", found.class).expect("text");
        for value in values {
            write!(text, " {value:.6}").expect("text");
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_class_centre_and_extent_with_the_score_on_request() {
        let found = Detection {
            xyxy: [20.0, 10.0, 60.0, 30.0],
            score: 0.75,
            class: 3,
        };
        let lines = |scores| label_lines(&[found, found], (80, 40), scores);
        let line = "3 0.500000 0.500000 0.500000 0.500000";
        assert_eq!(lines(false), format!("{line}\n{line}\n"));
        assert_eq!(lines(true), format!("{line} 0.750000\n{line} 0.750000\n"));
    }
}
