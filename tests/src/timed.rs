//! What executors are timed by: prompts, and tokens behind them, of one sequence or several.

use std::ops::Range;
use std::time::Duration;

use compute::ComputeError;
use compute::batch::{BLOCK_LEN, Batch, Row};
use compute::executor::Executor;
use rustix::time::{ClockId, clock_gettime};

const DECODED: u32 = 64;
/// Tokens that every sequence has before any is timed.
pub const BEGUN: u32 = 16;

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test {
    /// From the file to the first token of a short prompt, in seconds.
    FirstToken,
    /// A prompt of so many tokens, in tokens per second.
    Prefill(u32),
    /// So many sequences, each behind so many tokens, decode together, in tokens per second of all.
    Decode(u32, u32),
}

impl Test {
    /// `first-token`, `prefill-N`, `decode-N` (behind N tokens), `streams-N` (N sequences), or
    /// `streams-N@M` (behind M tokens each).
    ///
    /// # Errors
    /// Of any other name.
    pub fn parse(text: &str) -> Result<Test, String> {
        let unknown = || format!("unknown test {text}");
        let number = |text: &str| text.parse::<u32>().map_err(|_| unknown());
        if text == "first-token" {
            return Ok(Test::FirstToken);
        }
        match text.split_once('-').ok_or_else(unknown)? {
            ("prefill", count) => Ok(Test::Prefill(number(count)?)),
            ("decode", behind) => Ok(Test::Decode(1, number(behind)?)),
            ("streams", streams) => match streams.split_once('@') {
                Some((count, behind)) => Ok(Test::Decode(number(count)?, number(behind)?)),
                None => Ok(Test::Decode(number(streams)?, BEGUN)),
            },
            _ => Err(unknown()),
        }
    }

    /// As it is parsed.
    pub fn name(self) -> String {
        match self {
            Test::FirstToken => "first-token".to_owned(),
            Test::Prefill(count) => format!("prefill-{count}"),
            Test::Decode(1, behind) => format!("decode-{behind}"),
            Test::Decode(count, BEGUN) => format!("streams-{count}"),
            Test::Decode(count, behind) => format!("streams-{count}@{behind}"),
        }
    }

    /// Cache blocks that it needs.
    pub fn blocks(self) -> usize {
        let of = |tokens: u32| blocks_of(tokens) as usize;
        match self {
            Test::FirstToken => of(0),
            Test::Prefill(count) => of(count),
            Test::Decode(count, behind) => count as usize * of(behind + DECODED),
        }
    }
}

/// Blocks of a sequence of so many tokens, with room for what is computed before any is timed.
fn blocks_of(tokens: u32) -> u32 {
    tokens.max(BEGUN + DECODED).div_ceil(BLOCK_LEN as u32)
}

/// What a clock says.
pub fn now(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// A model and what its sequences hold: each its own blocks, one after the other.
pub struct Running {
    model: Box<dyn Executor>,
    clock: ClockId,
    chunk: usize,
    /// Tokens are other ones in every test: nothing is known from before.
    salt: u32,
}

impl Running {
    /// A model that is timed by a clock, in steps of at most `chunk` rows.
    pub fn new(model: Box<dyn Executor>, clock: ClockId, chunk: usize) -> Running {
        Running { model, clock, chunk, salt: 0 }
    }

    /// Computes these positions of some sequences, a chunk at a time, and reads the last logits.
    ///
    /// # Errors
    /// Those of the executor.
    pub fn fill(&mut self, sequences: u32, positions: Range<u32>) -> Result<(), ComputeError> {
        self.fill_of(sequences, positions.clone(), positions.end)
    }

    /// The same of sequences that get `tokens` in all.
    fn fill_of(
        &mut self,
        sequences: u32,
        positions: Range<u32>,
        tokens: u32,
    ) -> Result<(), ComputeError> {
        let each = blocks_of(tokens);
        let tables: Vec<Vec<u32>> =
            (0..sequences).map(|of| (of * each..(of + 1) * each).collect()).collect();
        let tables: Vec<&[u32]> = tables.iter().map(Vec::as_slice).collect();
        let salt = self.salt;
        let rows: Vec<Row> = (0..sequences)
            .flat_map(|sequence| {
                positions.clone().map(move |position| Row {
                    token: (position * 7 + sequence * 131 + salt * 29) % 1000 + 10,
                    position,
                    sequence,
                })
            })
            .collect();
        for rows in rows.chunks(self.chunk) {
            let outputs: Vec<u32> = (0..rows.len() as u32)
                .filter(|&i| rows[i as usize].position + 1 == positions.end)
                .collect();
            self.model.step(&Batch { rows, tables: &tables, outputs: &outputs, hidden: &[] })?;
        }
        Ok(())
    }

    /// Tokens per second.
    ///
    /// # Errors
    /// Those of the executor.
    ///
    /// # Panics
    /// For [`Test::FirstToken`], which has no rate.
    pub fn rate(&mut self, test: Test) -> Result<f64, ComputeError> {
        self.salt += 1;
        let (sequences, from, to) = match test {
            Test::FirstToken => panic!("first-token is timed by itself"),
            Test::Prefill(count) => (1, 0, count),
            Test::Decode(count, behind) => (count, behind, behind + DECODED),
        };
        self.fill_of(sequences, 0..from, to)?;
        let began = now(self.clock);
        if from == 0 {
            self.fill_of(1, 0..to, to)?;
        } else {
            for position in from..to {
                self.fill_of(sequences, position..position + 1, to)?;
            }
        }
        let took = now(self.clock) - began;
        Ok(f64::from(sequences * (to - from)) / took.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_have_names() {
        for (name, test) in [
            ("first-token", Test::FirstToken),
            ("prefill-512", Test::Prefill(512)),
            ("decode-512", Test::Decode(1, 512)),
            ("streams-8", Test::Decode(8, BEGUN)),
            ("streams-64@1024", Test::Decode(64, 1024)),
        ] {
            assert_eq!(Test::parse(name), Ok(test));
            assert_eq!(test.name(), name);
        }
        for name in ["prefill", "prefill-x", "streams-1@", "other-1"] {
            assert!(Test::parse(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_test_has_the_blocks_of_all_its_sequences() {
        let check = |test: Test, tokens: usize, sequences: usize| {
            assert_eq!(test.blocks(), tokens.div_ceil(BLOCK_LEN) * sequences, "{test:?}");
        };
        check(Test::FirstToken, 80, 1);
        check(Test::Prefill(512), 512, 1);
        check(Test::Decode(64, 1024), 1088, 64);
    }
}
