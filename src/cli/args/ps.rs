//! Options of `ps`.

use clap::Args;

use super::ListFormat;

// `ps`.
#[derive(Args, Debug)]
pub struct PsArgs {
    /// Form of the list
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    pub format: ListFormat,
    /// The container
    #[arg(value_name = "container-id")]
    pub id: String,
    /// Options for ps(1) [default: -ef]
    #[arg(value_name = "ps options", trailing_var_arg = true, allow_hyphen_values = true)]
    pub options: Vec<String>,
}
