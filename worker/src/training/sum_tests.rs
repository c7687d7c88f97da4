//! Tests of the sums of a step.

use std::ops::Range;
use std::sync::Arc;

use collective::{Buckets, Generation, Group, PieceSizes};
use futures_util::future::join_all;
use model::layout::{Group as TensorGroup, Initial, TensorSpec};
use tokio::task::yield_now;

use super::super::feed::Feed;
use super::*;
use crate::ring::links::RingLinks;

/// Two tensors of parameters and one of buffers.
fn layout() -> Layout {
    let tensor = |name: &str, range: Range<usize>, group| TensorSpec {
        name: name.into(),
        shape: vec![range.len()],
        range,
        group,
        initial: Initial::Constant(0.0),
    };
    Layout {
        parameters: vec![
            tensor("kernel", 0..5, TensorGroup::Decay),
            tensor("bias", 5..7, TensorGroup::Bias),
        ],
        buffers: vec![tensor("mean", 0..3, TensorGroup::RunningMean)],
        constants: Vec::new(),
    }
}

/// A slot whose numbers have long binary fractions, so that plain sums depend on their order.
fn slot(index: u32) -> Contribution {
    let number = |position: u32| ((index * 31 + position * 17) as f32 * 0.7).sin();
    Contribution {
        gradient: (0..7).map(number).collect(),
        statistics: (7..10).map(|position| 40.0 * number(position)).collect(),
        losses: [number(10), number(11), number(12)],
        normaliser: 3.0 + number(13),
        images: 4,
        unreadable: index % 2,
    }
}

fn fitting_exponents() -> Exponents {
    let mut exponents = Exponents::new(3);
    exponents.raise(&[127, 127, 133].map(|exponent| exponent - fixed_point::ROOM_BITS));
    exponents
}

/// Sums slots dealt to ranks, over a ring in memory, and returns what every rank got.
fn summed(kind: SumKind, deal: &[&[u32]]) -> Vec<(Totals, Vec<f32>, Vec<f32>)> {
    summed_over(kind, WireKind::F32, deal)
}

fn summed_over(kind: SumKind, wire: WireKind, deal: &[&[u32]]) -> Vec<(Totals, Vec<f32>, Vec<f32>)> {
    let slots: usize = deal.iter().map(|own| own.len()).sum();
    on_runtime(async {
        let links = RingLinks::in_memory(deal.len());
        let ranks = links
            .into_iter()
            .zip(deal)
            .enumerate()
            .map(|(rank, (links, own))| async move {
                let group = Group::new(Generation(1), rank, deal.len()).unwrap();
                // The first buckets are of the kernel, and travel before the bias is there.
                let sizes = PieceSizes::new(8, 8).unwrap();
                let ring = Ring::new(group, links, sizes, Arc::default());
                let mut sum = StepSum::new(kind, &layout(), 6, 8).travelling_as(wire);
                // The last two slots arrive in pieces, as from two backward passes at the same time.
                let (before, last) = own.split_at(own.len().saturating_sub(2));
                for &index in before {
                    sum.add(index, &slot(index), &fitting_exponents());
                }
                exchange(&mut sum, &ring, pieces(last), &fitting_exponents()).await;
                let totals = sum
                    .settle(slots, &fitting_exponents(), NonZeroUsize::MIN)
                    .unwrap();
                (totals, sum.gradient().to_vec(), sum.statistics().to_vec())
            });
        join_all(ranks).await
    })
}

/// Cuts up slots, whose kernels are finished before their biases.
fn pieces(indices: &[u32]) -> Vec<Arrival> {
    let gradient = |tensor: usize, range: Range<usize>| {
        indices.iter().map(move |&index| Arrival::Gradient {
            slot: index,
            tensor,
            values: slot(index).gradient[range.clone()].to_vec(),
        })
    };
    let rest = indices.iter().map(|&index| {
        let gradient = Vec::new();
        Arrival::Slot(
            index,
            Contribution {
                gradient,
                ..slot(index)
            },
        )
    });
    gradient(0, 0..5).chain(gradient(1, 5..7)).chain(rest).collect()
}

async fn exchange(sum: &mut StepSum, ring: &Ring, arrivals: Vec<Arrival>, exponents: &Exponents) {
    let slots = arrivals
        .iter()
        .filter(|arrival| matches!(arrival, Arrival::Slot(..)))
        .count();
    let (feed, arriving) = Feed::new();
    let exchange = sum.exchange(0, slots, ring, arriving, exponents);
    let late = arrivals.len() * (1 + ring.group().rank() % 2);
    for arrival in arrivals.into_iter().chain([Arrival::Control(Control::default())]) {
        feed.tell(arrival);
        for _ in 0..10 * late {
            yield_now().await;
        }
    }
    exchange.await.unwrap();
}

fn on_runtime<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(work)
}

#[test]
fn exact_sums_are_the_same_bits_for_any_deal_of_the_slots() {
    let alone = summed(SumKind::Exact, &[&[0, 1, 2, 3, 4]]).remove(0);
    let deals: [&[&[u32]]; 4] = [
        &[&[0, 1, 2], &[3, 4]],
        &[&[4, 0], &[3, 1, 2]],
        &[&[], &[2, 4], &[0, 1, 3]],
        &[&[0], &[1], &[2], &[3, 4]],
    ];
    for deal in deals {
        for rank in summed(SumKind::Exact, deal) {
            assert_eq!(rank, alone, "{deal:?}");
        }
    }
    assert_eq!((alone.0.images, alone.0.slots, alone.0.unreadable), (20, 5, 2));
}

#[test]
fn exact_and_plain_sums_agree_but_for_rounding() {
    let deal: &[&[u32]] = &[&[0, 1, 2], &[3, 4]];
    let exact = summed(SumKind::Exact, deal).remove(0);
    let plain = summed(SumKind::F32, deal).remove(1);
    for (a, b) in exact.1.iter().chain(&exact.2).zip(plain.1.iter().chain(&plain.2)) {
        assert!((a - b).abs() < 1e-5 * b.abs().max(1.0), "{a} against {b}");
    }
    assert_eq!(exact.0.losses, plain.0.losses);
    assert_eq!(exact.0.normaliser, plain.0.normaliser);
}

#[test]
fn kernels_in_bf16_are_rounded_alike_on_all_ranks_and_the_rest_is_not() {
    // Two ranks, for three would add up the rest in another order, which depends on its place in the vector.
    let deal: &[&[u32]] = &[&[0, 1], &[2, 3, 4]];
    let plain = summed(SumKind::F32, deal).remove(0);
    let halved = summed_over(SumKind::F32, WireKind::Bf16, deal);
    assert!(halved.iter().all(|rank| *rank == halved[0]));
    let (totals, gradient, statistics) = &halved[0];
    assert_eq!((totals, statistics), (&plain.0, &plain.2));
    let layout = layout();
    let mut rounded = 0;
    for tensor in &layout.parameters {
        for place in tensor.range.clone() {
            let (got, expected) = (gradient[place], plain.1[place]);
            if tensor.group == TensorGroup::Decay {
                // A partial sum and the sum are rounded to 8 bits.
                let bound = 2.0 * 2_f32.powi(-8) * expected.abs().max(1.0);
                assert!((got - expected).abs() <= bound, "{got} against {expected}");
                rounded += usize::from(got != expected);
            } else {
                assert_eq!(got, expected, "{}", tensor.name);
            }
        }
    }
    assert!(rounded > 0, "nothing was rounded");
}

#[test]
fn values_that_do_not_fit_are_reported_with_their_magnitudes() {
    let mut exponents = Exponents::new(3);
    exponents.raise(&[127, 0, 133]);
    let mut sum = StepSum::new(SumKind::Exact, &layout(), 2, 64);
    sum.add(0, &slot(0), &exponents);
    sum.add(1, &slot(1), &exponents);
    seal(&mut sum);
    let Err(Unsettled::DoesNotFit { magnitudes }) = sum.settle(2, &exponents, NonZeroUsize::MIN) else {
        panic!("the bias has no exponent yet");
    };
    let largest = |range: Range<usize>| {
        (0..2)
            .map(|index| fixed_point::magnitude(&slot(index).gradient[range.clone()]))
            .max()
            .unwrap()
    };
    assert_eq!(magnitudes[..2], [largest(0..5), largest(5..7)]);
    exponents.raise(&magnitudes);
    assert!(exponents.hold(&magnitudes));
}

#[test]
fn a_value_that_is_not_finite_settles_with_its_magnitude() {
    let mut bad = slot(0);
    bad.gradient[6] = f32::NAN;
    let mut sum = StepSum::new(SumKind::Exact, &layout(), 1, 64);
    sum.add(0, &bad, &fitting_exponents());
    seal(&mut sum);
    let totals = sum.settle(1, &fitting_exponents(), NonZeroUsize::MIN).unwrap();
    assert_eq!(totals.magnitudes[1], NOT_FINITE);
}

#[test]
fn a_damaged_sum_names_its_bucket() {
    let covered = Places::new(SumKind::Exact, &layout(), 1, 16).checks().start;
    for lane in 0..covered {
        let mut sum = StepSum::new(SumKind::Exact, &layout(), 1, 16);
        sum.add(0, &slot(0), &fitting_exponents());
        seal(&mut sum);
        let Lanes::Exact(lanes) = &mut sum.lanes else {
            unreachable!("an exact sum")
        };
        lanes[lane] ^= 1 << 20;
        let mut buckets = Buckets::new(sum.places.length(), 4).iter();
        let bucket = buckets.position(|bucket| bucket.contains(&lane)).unwrap();
        let expected = Err(Unsettled::Damaged { bucket });
        assert_eq!(sum.settle(1, &fitting_exponents(), NonZeroUsize::MIN), expected);
    }
}

#[test]
fn exact_sums_are_hardly_longer_than_plain_ones() {
    let device = model::device::open_device("cpu:flex", None).unwrap();
    let yolo = model::yolo::Yolo::new(
        "yolov8n"
            .parse::<model::kind::ModelKind>()
            .unwrap()
            .with_classes(80),
        &device,
    );
    let length = |kind| Places::new(kind, yolo.layout(), 16, 4 << 20).length() as f64;
    let ratio = length(SumKind::Exact) / length(SumKind::F32);
    println!("an exact sum is {:.4} % longer", (ratio - 1.0) * 100.0);
    assert!(ratio < 1.001);
}

#[test]
fn a_slot_in_pieces_is_the_slot_in_whatever_order_they_come() {
    let whole = |order: &[usize]| {
        let mut arrivals = pieces(&[0]);
        let first: Vec<_> = arrivals.drain(..2).collect();
        let mut first: Vec<_> = first.into_iter().map(Some).collect();
        let mut all: Vec<_> = order.iter().filter_map(|&piece| first[piece].take()).collect();
        all.extend(arrivals);
        let mut sum = StepSum::new(SumKind::Exact, &layout(), 1, 16);
        alone(&mut sum, all);
        sum.settle(1, &fitting_exponents(), NonZeroUsize::MIN).unwrap();
        (sum.gradient().to_vec(), sum.statistics().to_vec())
    };
    let mut sum = StepSum::new(SumKind::Exact, &layout(), 1, 16);
    sum.add(0, &slot(0), &fitting_exponents());
    seal(&mut sum);
    sum.settle(1, &fitting_exponents(), NonZeroUsize::MIN).unwrap();
    let expected = (sum.gradient().to_vec(), sum.statistics().to_vec());
    assert_eq!(whole(&[0, 1]), expected);
    assert_eq!(whole(&[1, 0]), expected);
}

#[test]
fn a_tensor_is_final_when_it_has_arrived_of_all_slots() {
    let mut sum = StepSum::new(SumKind::Exact, &layout(), 2, 8);
    let exponents = fitting_exponents();
    let mut adder = sum.adder(2, &exponents);
    let Lanes::Exact(lanes) = &mut sum.lanes else {
        unreachable!("an exact sum")
    };
    let mut arrivals = pieces(&[0, 1]).into_iter();
    let mut ready = || adder.take(arrivals.next().unwrap(), lanes);
    // Both kernels, both biases; the rest is final with the control word.
    assert_eq!([ready(), ready(), ready(), ready()], [0, 5, 5, 7]);
}

#[test]
fn a_tensor_that_is_never_handed_on_counts_as_zeros() {
    let mut arrivals = pieces(&[0]);
    arrivals.remove(0);
    let mut sum = StepSum::new(SumKind::Exact, &layout(), 1, 16);
    alone(&mut sum, arrivals);
    let totals = sum.settle(1, &fitting_exponents(), NonZeroUsize::MIN).unwrap();
    assert_eq!(sum.gradient()[..5], [0.0; 5]);
    assert_ne!(sum.gradient()[5..], [0.0; 2]);
    assert_eq!(totals.magnitudes[0], 0);
}

/// Does what an exchange does in a world of one.
fn seal(sum: &mut StepSum) {
    alone(sum, Vec::new());
}

fn alone(sum: &mut StepSum, arrivals: Vec<Arrival>) {
    on_runtime(async {
        let links = RingLinks::in_memory(1).remove(0);
        let group = Group::new(Generation(1), 0, 1).unwrap();
        let ring = Ring::new(group, links, PieceSizes::default(), Arc::default());
        exchange(sum, &ring, arrivals, &fitting_exponents()).await;
    });
}

#[test]
fn a_dropped_exchange_ends() {
    on_runtime(async {
        let links = RingLinks::in_memory(2).remove(0);
        let group = Group::new(Generation(1), 0, 2).unwrap();
        let ring = Ring::new(group, links, PieceSizes::default(), Arc::default());
        let mut sum = StepSum::new(SumKind::Exact, &layout(), 1, 16);
        let (sender, arriving) = tokio::sync::mpsc::unbounded_channel();
        let exchange = sum.exchange(0, 1, &ring, arriving, &fitting_exponents());
        yield_now().await;
        assert!(!sender.is_closed(), "it listens");
        drop(exchange);
        yield_now().await;
        assert!(sender.is_closed(), "it has ended");
    });
}
