//! What a training pass leaves behind, from which its gradient is computed.
//!
//! On most devices that is burn's graph, and nothing else is noted. Where a device [keeps graphs](crate::native) itself, the pass
//! notes its graph in pieces: a row of the network that has tensors ends one, unless these are few and only the next row reads it,
//! and its output is a leaf for the rows that read it. Backwards, a piece runs when the gradient where it ends is whole, for all
//! that read it have run. So the gradients of the last rows are known long before those of the first.

use burn::tensor::{Gradients, Tensor};

use crate::head::HeadOutput;
use crate::native::{self, Gradient, Node};
use crate::outlet::Outlet;

/// The way back through a training pass.
#[derive(Debug)]
pub struct Trace {
    /// `None` where all is in burn's graph.
    pub(crate) native: Option<Native>,
    /// Where gradients go as they are finished.
    pub(crate) outlet: Option<Outlet>,
}

/// A graph in pieces.
#[derive(Debug)]
pub(crate) struct Native {
    /// By row; none for one that is a part of the piece that reads it.
    rows: Vec<Option<Row>>,
    head: Piece,
    /// The ends of the head as the loss reads them, in burn's graph.
    output: [Tensor<3>; 2],
}

#[derive(Debug)]
struct Row {
    piece: Piece,
    /// What stands for its output in other pieces.
    leaf: Node,
}

/// A part of a graph.
#[derive(Debug)]
struct Piece {
    /// Rows whose leaves it reads.
    inputs: Vec<usize>,
    /// Positions of its tensors among the layout's parameters, and their leaves.
    parameters: Vec<(usize, Node)>,
    ends: Vec<Node>,
    /// Maps that the graph keeps, so that burn does not think that nobody reads them any more.
    _held: Vec<Tensor<4>>,
}

impl Native {
    #[cfg(all(test, feature = "tch"))]
    pub(crate) fn rows_that_end_pieces(&self) -> Vec<usize> {
        let rows = self.rows.iter().enumerate();
        rows.filter_map(|(row, ends)| ends.as_ref().map(|_| row))
            .collect()
    }

    /// Runs all pieces backwards and hands each parameter's gradient to `sink`, with the parameter's position: those of later
    /// layers before those of earlier ones. Some parameters have none.
    pub(crate) fn backward(self, of_loss: &mut Gradients, mut sink: impl FnMut(usize, Gradient)) {
        let Self { rows, head, output } = self;
        let mut gradients: Vec<Option<Gradient>> = rows.iter().map(|_| None).collect();
        let (pieces, mut leaves): (Vec<_>, Vec<_>) = rows
            .into_iter()
            .map(|row| row.map(|row| (row.piece, row.leaf)).unzip())
            .unzip();
        let at_ends = output.map(|end| end.grad_remove(of_loss).map(Gradient::of));
        head.backward(at_ends, &leaves, &mut gradients, &mut sink);
        for (row, piece) in pieces.into_iter().enumerate().rev() {
            let at_end = gradients[row].take();
            // All that read it have run; its memory may go.
            leaves[row] = None;
            if let Some(piece) = piece {
                piece.backward([at_end], &leaves, &mut gradients, &mut sink);
            }
        }
    }
}

impl Piece {
    /// Runs it, given the gradients at its ends; adds what it finds at its inputs to that of other readers.
    fn backward(
        self,
        at_ends: impl IntoIterator<Item = Option<Gradient>>,
        leaves: &[Option<Node>],
        gradients: &mut [Option<Gradient>],
        sink: &mut impl FnMut(usize, Gradient),
    ) {
        let ends = self.ends.into_iter().zip(at_ends);
        let ends: Vec<_> = ends
            .filter_map(|(end, gradient)| Some((end, gradient?)))
            .collect();
        if ends.is_empty() {
            return;
        }
        // Invariant: a row that is read has been noted before, with a leaf.
        let inputs = (self.inputs.iter()).map(|&row| leaves[row].as_ref().expect("a leaf of an input"));
        let read: Vec<&Node> = inputs
            .chain(self.parameters.iter().map(|(_, leaf)| leaf))
            .collect();
        let mut found = native::backward(ends, &read).into_iter();
        for (row, gradient) in self.inputs.iter().zip(&mut found) {
            if let Some(gradient) = gradient {
                let before = gradients[*row].take();
                gradients[*row] = Some(match before {
                    Some(before) => before.plus(gradient),
                    None => gradient,
                });
            }
        }
        // The last layers first, as they are finished.
        for ((position, _), gradient) in self.parameters.iter().zip(found).rev() {
            if let Some(gradient) = gradient {
                sink(*position, gradient);
            }
        }
    }
}

/// Who reads the output of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readers {
    /// The next row and nobody else.
    Next,
    /// Others, or several.
    Others,
}

/// Notes the pieces of a pass on its way.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    rows: Vec<Option<Row>>,
    /// By row: the rows whose leaves a reader of its output reads; none for one that was not noted.
    read: Vec<Vec<usize>>,
    /// Of the piece on the way.
    parameters: Vec<(usize, Node)>,
    held: Vec<Tensor<4>>,
}

impl Recorder {
    /// Returns a parameter as a leaf, for a layer that applies it to `x`.
    pub(crate) fn parameter<const D: usize>(
        &mut self,
        parameter: Tensor<D>,
        position: usize,
        x: &Tensor<4>,
    ) -> Tensor<D> {
        let (parameter, leaf) = Node::leaf(parameter);
        self.parameters.push((position, leaf));
        self.held.push(x.clone());
        parameter
    }

    /// Ends a row that read the outputs of the rows `inputs`. Returns what stands for its output.
    ///
    /// Between two pieces gradients of whole maps are handed over, which costs time. So a row that only the next one reads ends no
    /// piece of few parameters.
    pub(crate) fn end_row(
        &mut self,
        row: usize,
        inputs: &[usize],
        readers: Readers,
        output: Tensor<4>,
    ) -> Tensor<4> {
        self.rows.resize_with(row + 1, || None);
        self.read.resize_with(row + 1, Vec::new);
        let values: usize = self.parameters.iter().map(|(_, leaf)| leaf.len()).sum();
        if values == 0 || readers == Readers::Next && values < PIECE_VALUES_MIN {
            // A part of the piece that reads it.
            self.read[row] = self.rows_read(inputs);
            return output;
        }
        let (outside, end) = Node::end(output);
        let (output, leaf) = Node::leaf(outside);
        let piece = self.piece(inputs, vec![end]);
        self.rows[row] = Some(Row { piece, leaf });
        self.read[row] = vec![row];
        output
    }

    /// Ends the head, which read the outputs of the rows `inputs`. Returns what the loss reads, in burn's graph.
    pub(crate) fn end_head(mut self, inputs: &[usize], output: HeadOutput) -> (HeadOutput, Native) {
        let HeadOutput {
            distances,
            scores,
            grid,
        } = output;
        let ((distances, end_of_distances), (scores, end_of_scores)) =
            (Node::end(distances), Node::end(scores));
        let head = self.piece(inputs, vec![end_of_distances, end_of_scores]);
        let [distances, scores] = [distances, scores].map(|end| end.autodiff().require_grad());
        let native = Native {
            rows: self.rows,
            head,
            output: [distances.clone(), scores.clone()],
        };
        let output = HeadOutput {
            distances,
            scores,
            grid,
        };
        (output, native)
    }

    fn piece(&mut self, inputs: &[usize], ends: Vec<Node>) -> Piece {
        Piece {
            inputs: self.rows_read(inputs),
            parameters: std::mem::take(&mut self.parameters),
            ends,
            _held: std::mem::take(&mut self.held),
        }
    }

    fn rows_read(&self, inputs: &[usize]) -> Vec<usize> {
        // Rows that are held fixed were not noted.
        let noted = inputs.iter().filter_map(|&row| self.read.get(row));
        let mut read: Vec<usize> = noted.flatten().copied().collect();
        read.sort_unstable();
        read.dedup();
        read
    }
}

/// Parameters of a piece whose gradients are worth sending before those of the next piece: 256 KiB.
const PIECE_VALUES_MIN: usize = 1 << 16;
