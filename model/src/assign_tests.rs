use super::*;
use crate::head::Level;

fn level(side: usize, stride: f32) -> Level {
    Level {
        height: side,
        width: side,
        stride,
    }
}

fn grid() -> AnchorGrid {
    AnchorGrid::new(vec![level(8, 8.0), level(4, 16.0)])
}

fn target(class: u32, xyxy: [f32; 4]) -> Target {
    Target { class, xyxy }
}

fn anchors(grid: &AnchorGrid, xyxy: [f32; 4]) -> Vec<usize> {
    let pairs = candidates(grid, &[target(0, xyxy)]);
    pairs.into_iter().map(|pair| pair.anchor).collect()
}

#[test]
fn candidates_are_the_anchors_centred_strictly_inside() {
    // Centres of the fine level at 4, 12, 20 ..; 20 lies on the right edge and does not count.
    assert_eq!(anchors(&grid(), [0.0, 0.0, 20.0, 17.0]), [0, 1, 8, 9, 64]);
    assert_eq!(anchors(&grid(), [0.0, 0.0, 20.1, 17.0]), [0, 1, 2, 8, 9, 10, 64]);
}

#[test]
fn candidates_equal_a_test_of_every_anchor() {
    let grid = grid();
    for (index, xyxy) in [
        [0.0, 0.0, 64.0, 64.0],
        [-3.0, 10.0, 27.3, 70.0],
        [33.0, 33.0, 51.0, 60.0],
        [100.0, 100.0, 120.0, 120.0],
        [-60.0, 2.0, -20.0, 30.0],
    ]
    .into_iter()
    .enumerate()
    {
        let expected: Vec<usize> = (0..grid.len())
            .filter(|&anchor| {
                let [x, y] = grid.points[anchor].map(|c| c * grid.strides[anchor]);
                x > xyxy[0] && y > xyxy[1] && x < xyxy[2] && y < xyxy[3]
            })
            .collect();
        assert_eq!(anchors(&grid, xyxy), expected, "box {index}");
    }
}

#[test]
fn tiny_objects_are_widened_to_the_second_stride() {
    // 2 x 2 pixels between centres, widened to 16 x 16 about (8, 8).
    assert_eq!(anchors(&grid(), [7.0, 7.0, 9.0, 9.0]), [0, 1, 8, 9, 64]);
}

/// Runs the assigner with one probability and one box for every anchor.
fn run(
    truths: &[Target],
    config: &AssignConfig,
    prediction: impl Fn(usize) -> (f32, [f32; 4]),
) -> Vec<Positive> {
    let pairs = candidates(&grid(), truths);
    let (probabilities, predicted): (Vec<f32>, Vec<[f32; 4]>) =
        pairs.iter().map(|pair| prediction(pair.anchor)).unzip();
    assign(config, &pairs, &probabilities, &predicted, truths)
}

#[test]
fn the_best_candidates_win_and_the_best_gets_the_best_overlap() {
    let truth = [0.0, 0.0, 32.0, 32.0];
    let config = AssignConfig {
        positives: 2,
        ..AssignConfig::default()
    };
    let positives = run(&[target(0, truth)], &config, |anchor| match anchor {
        9 => (0.64, truth),
        10 => (0.16, truth),
        11 => (0.04, truth),
        _ => (0.9, [40.0, 40.0, 60.0, 60.0]),
    });
    let found: Vec<usize> = positives.iter().map(|p| p.anchor).collect();
    assert_eq!(found, [9, 10]);
    // Equal overlaps of 1, metrics 0.8 and 0.4: the scores are 1 and 0.5.
    assert!((positives[0].score - 1.0).abs() < 1e-5, "{positives:?}");
    assert!((positives[1].score - 0.5).abs() < 1e-5, "{positives:?}");
}

#[test]
fn equal_metrics_prefer_the_lower_anchor() {
    let truth = [0.0, 0.0, 64.0, 64.0];
    let config = AssignConfig {
        positives: 3,
        ..AssignConfig::default()
    };
    let positives = run(&[target(0, truth)], &config, |_| (0.5, truth));
    let found: Vec<usize> = positives.iter().map(|p| p.anchor).collect();
    assert_eq!(found, [0, 1, 2]);
}

#[test]
fn candidates_without_overlap_are_never_positive() {
    let truth = [0.0, 0.0, 32.0, 32.0];
    let config = AssignConfig::default();
    let far = [50.0, 50.0, 60.0, 60.0];
    assert!(run(&[target(0, truth)], &config, |_| (0.9, far)).is_empty());
}

#[test]
fn a_contested_anchor_goes_to_the_larger_overlap() {
    let truths = [
        target(0, [0.0, 0.0, 30.0, 32.0]),
        target(0, [2.0, 0.0, 32.0, 32.0]),
    ];
    let positives = run(&truths, &AssignConfig::default(), |anchor| {
        (0.5, truths[anchor % 2].xyxy)
    });
    assert!(positives.len() > 10);
    for positive in &positives {
        assert_eq!(positive.truth, positive.anchor % 2, "{positive:?}");
        assert!((positive.score - 1.0).abs() < 1e-4);
    }
}

#[test]
fn a_contested_anchor_may_go_to_an_object_that_did_not_claim_it() {
    // Anchor 9 predicts object 2 best, but object 2 has better candidates (score 1) for its one place.
    let truths = [
        target(0, [0.0, 0.0, 32.0, 24.0]),
        target(0, [0.0, 0.0, 24.0, 32.0]),
        target(1, [0.0, 0.0, 28.0, 28.0]),
    ];
    let config = AssignConfig {
        positives: 1,
        ..AssignConfig::default()
    };
    let pairs: Vec<Pair> = [(9, 0), (9, 1), (9, 2), (10, 2)]
        .map(|(anchor, truth)| Pair { anchor, truth })
        .to_vec();
    let predicted = [truths[2].xyxy; 4];
    let positives = assign(&config, &pairs, &[0.5, 0.5, 0.1, 0.9], &predicted, &truths);
    let found: Vec<(usize, usize)> = positives.iter().map(|p| (p.anchor, p.truth)).collect();
    assert_eq!(found, [(9, 2), (10, 2)]);
}

#[test]
fn no_objects_and_no_levels_give_no_candidates() {
    assert!(candidates(&grid(), &[]).is_empty());
    let nothing = AnchorGrid::new(Vec::new());
    assert!(candidates(&nothing, &[target(0, [0.0, 0.0, 9.0, 9.0])]).is_empty());
    assert!(assign(&AssignConfig::default(), &[], &[], &[], &[]).is_empty());
}
