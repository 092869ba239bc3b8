//! Options of `ps`.

use clap::Args;

use super::ListFormat;

// `ps`. What stands behind the id is for ps(1) whatever it looks like, so one list takes both.
#[derive(Args, Debug)]
#[command(override_usage = "emergence-runc ps [OPTIONS] <container-id> [ps options]")]
pub struct PsArgs {
    /// Form of the list
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    pub format: ListFormat,
    /// The container, and behind it options for ps(1) [default: -ef]
    #[arg(value_name = "container-id", trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    pub words: Vec<String>,
}
