//! A progress bar on standard error, if that is a terminal.

use std::io::IsTerminal;
use std::sync::Arc;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};

use crate::emergence::Watch;

/// The progress bar. Dropping it clears its line.
pub(super) struct Bar(ProgressBar);

/// A progress bar, if standard error is a terminal.
pub(super) fn bar() -> Option<Arc<Bar>> {
    if !std::io::stderr().is_terminal() {
        return None;
    }
    let style =
        ProgressStyle::with_template("{msg} [{bar:30}] {binary_bytes} of {binary_total_bytes}, {eta} left");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ");
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(10));
    Some(Arc::new(Bar(bar.with_style(style).with_finish(ProgressFinish::AndClear))))
}

impl Bar {
    /// Clears the bar before other output.
    pub(super) fn clear(&self) {
        self.0.finish_and_clear();
    }
}

impl Watch for Bar {
    fn expect(&self, what: &str, bytes: u64) {
        self.0.reset();
        self.0.set_message(what.to_owned());
        self.0.set_length(bytes);
    }

    fn advance(&self, bytes: u64) {
        self.0.inc(bytes);
    }
}
