//! How the fused operations take part in the autodiff graph: one node each, with a backward of its own.

use burn::backend::AutodiffBackend;
use burn::backend::TensorMetadata;
use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::tensor::read_sync;

use super::FusedOps;
use crate::outlet::Outlet;

impl<B: FusedOps, C: CheckpointStrategy> FusedOps for Autodiff<B, C> {
    fn tap(
        parameter: FloatTensor<Self>,
        beside: FloatTensor<Self>,
        position: usize,
        outlet: Outlet,
    ) -> FloatTensor<Self> {
        let prepared = Tap
            .prepare::<C>([parameter.node(), beside.node()])
            .compute_bound()
            .stateful();
        let parameter = parameter.into_primitive();
        match prepared {
            OpsKind::Tracked(prepared) => prepared.finish(TapState { position, outlet }, parameter),
            OpsKind::UnTracked(prepared) => prepared.finish(parameter),
        }
    }

    fn convolve(
        x: FloatTensor<Self>,
        kernel: FloatTensor<Self>,
        stride: usize,
        padding: usize,
    ) -> FloatTensor<Self> {
        let prepared = Convolve
            .prepare::<C>([x.node(), kernel.node()])
            .compute_bound()
            .stateful();
        let (x, kernel) = (x.into_primitive(), kernel.into_primitive());
        match prepared {
            OpsKind::Tracked(prepared) => {
                let state = ConvolveState {
                    x: x.clone(),
                    kernel: kernel.clone(),
                    stride,
                    padding,
                };
                prepared.finish(state, B::convolve(x, kernel, stride, padding))
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::convolve(x, kernel, stride, padding)),
        }
    }

    fn depthwise(x: FloatTensor<Self>, kernel: FloatTensor<Self>) -> FloatTensor<Self> {
        let prepared = Depthwise
            .prepare::<C>([x.node(), kernel.node()])
            .compute_bound()
            .stateful();
        let (x, kernel) = (x.into_primitive(), kernel.into_primitive());
        match prepared {
            OpsKind::Tracked(prepared) => {
                let state = DepthwiseState {
                    x: x.clone(),
                    kernel: kernel.clone(),
                };
                prepared.finish(state, B::depthwise(x, kernel))
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::depthwise(x, kernel)),
        }
    }

    fn norm_silu(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let prepared = NormSilu
            .prepare::<C>([x.node(), gamma.node(), beta.node()])
            .compute_bound()
            .stateful();
        let x = x.into_primitive();
        let gamma = gamma.into_primitive();
        let beta = beta.into_primitive();
        let (output, mean, variance) = B::norm_silu(x.clone(), gamma.clone(), beta.clone(), epsilon);
        let output = match prepared {
            OpsKind::Tracked(prepared) => {
                let state = NormSiluState {
                    x,
                    gamma,
                    beta,
                    mean: mean.clone(),
                    variance: variance.clone(),
                    epsilon,
                };
                prepared.finish(state, output)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        };
        (output, Self::from_inner(mean), Self::from_inner(variance))
    }
}

#[derive(Debug)]
struct Tap;

#[derive(Clone, Debug)]
struct TapState {
    position: usize,
    outlet: Outlet,
}

impl<B: FusedOps> Backward<B, 2> for Tap {
    type State = TapState;

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let TapState { position, outlet } = ops.state;
        let values = gradient.shape().num_elements();
        outlet.hand_on(position, values, move || {
            // Invariant: all tensors of this crate are f32, and a device that fails to be read has failed the step.
            let data = read_sync(B::float_into_data(gradient)).expect("a gradient can be read");
            data.try_into_vec().expect("f32 values")
        });
    }
}

#[derive(Debug)]
struct Convolve;

#[derive(Clone, Debug)]
struct ConvolveState<T> {
    x: T,
    kernel: T,
    stride: usize,
    padding: usize,
}

impl<B: FusedOps> Backward<B, 2> for Convolve {
    type State = ConvolveState<FloatTensor<B>>;

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let [x_node, kernel_node] = ops.parents;
        let gradient = gradients.consume::<B>(&ops.node);
        let ConvolveState {
            x,
            kernel,
            stride,
            padding,
        } = ops.state;
        if let Some(node) = x_node {
            let images = B::image_gradient(x.clone(), kernel.clone(), gradient.clone(), stride, padding);
            gradients.register::<B>(node.id, images);
        }
        if let Some(node) = kernel_node {
            let weights = B::kernel_gradient(x, kernel, gradient, stride, padding);
            gradients.register::<B>(node.id, weights);
        }
    }
}

#[derive(Debug)]
struct Depthwise;

#[derive(Clone, Debug)]
struct DepthwiseState<T> {
    x: T,
    kernel: T,
}

impl<B: FusedOps> Backward<B, 2> for Depthwise {
    type State = DepthwiseState<FloatTensor<B>>;

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let [x_node, kernel_node] = ops.parents;
        let gradient = gradients.consume::<B>(&ops.node);
        let DepthwiseState { x, kernel } = ops.state;
        let side = kernel.shape()[2];
        if let Some(node) = x_node {
            // The same with the kernel turned around.
            let turned = B::float_flip(kernel, &[2, 3]);
            gradients.register::<B>(node.id, B::depthwise(gradient.clone(), turned));
        }
        if let Some(node) = kernel_node {
            let weights = B::depthwise_kernel_gradient(x, gradient, side);
            gradients.register::<B>(node.id, weights);
        }
    }
}

#[derive(Debug)]
struct NormSilu;

#[derive(Clone, Debug)]
struct NormSiluState<T> {
    x: T,
    gamma: T,
    beta: T,
    mean: T,
    variance: T,
    epsilon: f64,
}

impl<B: FusedOps> Backward<B, 3> for NormSilu {
    type State = NormSiluState<FloatTensor<B>>;

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let state = ops.state;
        let (x, gamma, beta) = B::norm_silu_gradient(
            state.x,
            state.gamma,
            state.beta,
            state.mean,
            state.variance,
            state.epsilon,
            gradient,
        );
        for (node, gradient) in ops.parents.into_iter().zip([x, gamma, beta]) {
            if let Some(node) = node {
                gradients.register::<B>(node.id, gradient);
            }
        }
    }
}
