//! Loss that has nothing to do with load: [`Loss`].

use rand::Rng;
use rand::rngs::StdRng;

/// How packets are lost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Loss {
    /// Not at all.
    None,
    /// Each with this probability.
    Random(f64),
    /// In bursts: a path is good or bad (Gilbert and Elliott).
    Burst {
        /// Probability per packet of turning bad.
        begins: f64,
        /// Probability per packet of turning good; its inverse is the mean length of a burst.
        ends: f64,
        /// Share lost while bad.
        loss: f64,
    },
}

/// A [`Loss`] with its memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct LossProcess {
    loss: Loss,
    is_bad: bool,
}

impl LossProcess {
    pub(super) fn new(loss: Loss) -> Self {
        Self {
            loss,
            is_bad: false,
        }
    }

    /// True if the next packet is lost.
    pub(super) fn loses(&mut self, random: &mut StdRng) -> bool {
        match self.loss {
            Loss::None => false,
            Loss::Random(loss) => random.random_bool(loss),
            Loss::Burst { begins, ends, loss } => {
                let turns = if self.is_bad { ends } else { begins };
                self.is_bad ^= random.random_bool(turns);
                self.is_bad && random.random_bool(loss)
            }
        }
    }
}
