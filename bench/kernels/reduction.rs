//! What a rank does with a segment: encode it, check it, add it up, or take it over. `cargo bench -p kernels`.

use std::hint::black_box;

use bytes::Bytes;
use collective::{Bf16Sum, F32Sum, I32Sum, Payload, PieceSizes, Reduction};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn kernels<R: Reduction>(criterion: &mut Criterion, name: &str, one: R::Element) {
    let count = PieceSizes::default().segment_bytes() / R::WIRE_BYTES;
    let mut values = vec![one; count];
    let mut payload = vec![0; count * R::WIRE_BYTES];
    R::encode(&values, &mut payload);
    let received = Bytes::from(payload.clone());
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Bytes(received.len() as u64));
    group.bench_function("encode", |bencher| {
        bencher.iter(|| R::encode(black_box(&values), &mut payload));
    });
    group.bench_function("encode sums", |bencher| {
        bencher.iter(|| R::encode_sums(black_box(&values), black_box(&received), &mut payload));
    });
    group.bench_function("assign", |bencher| {
        bencher.iter(|| R::assign(&mut values, black_box(&received)));
    });
    group.bench_function("checksum", |bencher| {
        bencher.iter(|| Payload::from(black_box(&received).clone()));
    });
    group.finish();
}

fn all(criterion: &mut Criterion) {
    kernels::<I32Sum>(criterion, "i32", 1);
    // Zeros stay zeros, and no sum leaves the range of normal numbers.
    kernels::<F32Sum>(criterion, "f32", 0.0);
    kernels::<Bf16Sum>(criterion, "f32 as bf16", 0.0);
}

criterion_group!(benches, all);
criterion_main!(benches);
