//! What one step adds up over all slots of all ranks: a single flat vector for a single all-reduce.
//!
//! Behind the gradient ride the BatchNorm statistics of the slots, the loss normaliser, the sums for the log
//! and the control word, so that every rank takes the same decision at the same step without a message more.

/// The sums of one step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepSum {
    values: Vec<f32>,
    parameters: usize,
    buffers: usize,
}

/// What one slot adds to a step.
#[derive(Clone, Debug)]
pub struct Contribution {
    /// Gradient of the un-normalised loss, in parameter order.
    pub gradient: Vec<f32>,
    /// Mean and variance of each BatchNorm over the slot, in buffer order.
    pub statistics: Vec<f32>,
    /// Un-normalised box, class and distribution loss, gains applied.
    pub losses: [f32; 3],
    /// Sum of the target scores.
    pub normaliser: f32,
    /// Images in the slot.
    pub images: usize,
}

/// Position of a total behind the statistics.
#[derive(Clone, Copy, Debug)]
enum Total {
    Normaliser,
    Images,
    Box,
    Class,
    Distribution,
    Slots,
    Unreadable,
    StopRequested,
}

const TOTALS: usize = Total::StopRequested as usize + 1;

impl StepSum {
    /// Returns zero for a model of so many parameters and buffer values.
    pub fn new(parameters: usize, buffers: usize) -> Self {
        Self {
            values: vec![0.0; parameters + buffers + TOTALS],
            parameters,
            buffers,
        }
    }

    /// Sets everything to zero.
    pub fn clear(&mut self) {
        self.values.fill(0.0);
    }

    /// Adds one slot.
    pub fn add(&mut self, slot: &Contribution) {
        let (gradient, rest) = self.values.split_at_mut(self.parameters);
        add(gradient, &slot.gradient);
        add(&mut rest[..self.buffers], &slot.statistics);
        *self.total_mut(Total::Normaliser) += slot.normaliser;
        *self.total_mut(Total::Images) += slot.images as f32;
        *self.total_mut(Total::Box) += slot.losses[0];
        *self.total_mut(Total::Class) += slot.losses[1];
        *self.total_mut(Total::Distribution) += slot.losses[2];
        *self.total_mut(Total::Slots) += 1.0;
    }

    /// Counts images that could not be decoded.
    pub fn add_unreadable(&mut self, images: u32) {
        *self.total_mut(Total::Unreadable) += images as f32;
    }

    /// Asks all ranks to stop after this step.
    pub fn request_stop(&mut self) {
        *self.total_mut(Total::StopRequested) = 1.0;
    }

    /// Returns the whole vector, for the all-reduce.
    pub fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }

    /// Returns the summed gradient.
    pub fn gradient_mut(&mut self) -> &mut [f32] {
        &mut self.values[..self.parameters]
    }

    /// Returns the summed gradient.
    pub fn gradient(&self) -> &[f32] {
        &self.values[..self.parameters]
    }

    /// Returns the summed BatchNorm statistics.
    pub fn statistics(&self) -> &[f32] {
        &self.values[self.parameters..self.parameters + self.buffers]
    }

    /// Returns the loss normaliser: the sum of the target scores, at least 1.
    pub fn normaliser(&self) -> f32 {
        self.total(Total::Normaliser).max(1.0)
    }

    /// Returns the number of images.
    pub fn images(&self) -> f32 {
        self.total(Total::Images)
    }

    /// Returns the number of slots.
    pub fn slots(&self) -> f32 {
        self.total(Total::Slots)
    }

    /// Returns the images that could not be decoded.
    pub fn unreadable(&self) -> u64 {
        self.total(Total::Unreadable) as u64
    }

    /// Whether any rank asked to stop.
    pub fn is_stop_requested(&self) -> bool {
        self.total(Total::StopRequested) > 0.0
    }

    /// Returns the mean box, class and distribution loss, as logs and `results.csv` show them.
    pub fn mean_losses(&self) -> [f64; 3] {
        let normaliser = f64::from(self.normaliser());
        [Total::Box, Total::Class, Total::Distribution].map(|loss| f64::from(self.total(loss)) / normaliser)
    }

    fn total(&self, total: Total) -> f32 {
        self.values[self.parameters + self.buffers + total as usize]
    }

    fn total_mut(&mut self, total: Total) -> &mut f32 {
        &mut self.values[self.parameters + self.buffers + total as usize]
    }
}

fn add(into: &mut [f32], values: &[f32]) {
    assert_eq!(into.len(), values.len(), "a contribution has the layout's length");
    for (sum, value) in into.iter_mut().zip(values) {
        *sum += value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_do_not_touch_the_gradient_or_the_statistics() {
        let slot = Contribution {
            gradient: vec![1.0, 2.0],
            statistics: vec![3.0],
            losses: [4.0, 5.0, 6.0],
            normaliser: 2.0,
            images: 4,
        };
        let mut sum = StepSum::new(2, 1);
        sum.add(&slot);
        sum.add(&slot);
        sum.request_stop();
        assert_eq!(sum.gradient(), [2.0, 4.0]);
        assert_eq!(sum.statistics(), [6.0]);
        assert_eq!((sum.images(), sum.slots(), sum.normaliser()), (8.0, 2.0, 4.0));
        assert_eq!(sum.mean_losses(), [2.0, 2.5, 3.0]);
        assert!(sum.is_stop_requested());
        sum.clear();
        assert_eq!(sum, StepSum::new(2, 1));
    }
}
