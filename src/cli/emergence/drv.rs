//! `emergence drv`.

use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::common::{CommonOptions, open};
use crate::cli::args::{DrvAction, DrvFile};
use crate::emergence::drv::{self, Derivation, Output};
use crate::emergence::{Code, Fault, Method, Name, Result, StorePath, Within, read_document};
use crate::error::Error;

pub(super) fn drv(action: DrvAction, options: &CommonOptions) -> Result<()> {
    match action {
        DrvAction::Show(file) => {
            show(&file, options).within(|| format!("emergence drv show {}", file.file.display()))
        }
        DrvAction::Check { drv, inputs } => {
            let doing = || format!("emergence drv check {}", drv.file.display());
            check(&drv, inputs.as_deref(), options).within(doing)
        }
        DrvAction::Path(file) => {
            path(&file, options).within(|| format!("emergence drv path {}", file.file.display()))
        }
    }
}

/// Reads a derivation, and the name of the object that it builds.
fn read(file: &DrvFile, options: &CommonOptions) -> Result<(Derivation, Name)> {
    let bytes = read_document(open(&file.file)?, &file.file.display().to_string())?;
    let drv = drv::parse(&bytes, options.dir())?;
    let name = name(file, &drv)?;
    Ok((drv, name))
}

fn name(file: &DrvFile, drv: &Derivation) -> Result<Name> {
    if let Some(name) = &file.name {
        return Name::new(name);
    }
    let base = file.file.file_name().and_then(OsStr::to_str).and_then(|base| StorePath::parse(base).ok());
    if let Some(stem) = base.as_ref().and_then(|base| base.name().as_str().strip_suffix(".drv")) {
        return Name::new(stem);
    }
    match drv.env.get(b"name".as_slice()).and_then(|name| std::str::from_utf8(name).ok()) {
        Some(name) => Name::new(name),
        None => Err(Fault::usage(
            "neither the file's name nor the variable \"name\" gives the name; give a --name",
        )),
    }
}

fn own_path(drv: &Derivation, name: &Name, options: &CommonOptions) -> Result<String> {
    Ok(options.dir().path(&drv.path(options.dir(), Name::new(&format!("{name}.drv"))?)?))
}

fn path(file: &DrvFile, options: &CommonOptions) -> Result<()> {
    let (drv, name) = read(file, options)?;
    let path = own_path(&drv, &name, options)?;
    options.answer(&path, || json!({ "path": path }))
}

fn check(file: &DrvFile, inputs: Option<&Path>, options: &CommonOptions) -> Result<()> {
    let (drv, name) = read(file, options)?;
    let beside = file.file.parent().filter(|directory| !directory.as_os_str().is_empty());
    let directory = inputs.or(beside).unwrap_or(Path::new("."));
    let checked = drv::check(drv, name, options.dir(), |path| {
        let place = directory.join(path.to_string());
        let bytes = match File::open(&place) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let words = format!("an input's derivation is not in {}", directory.display());
                return Err(Fault::refused(Code::DrvInputMissing, options.dir().path(path), words));
            }
            Err(error) => return Err(Error::from(error).within(format!("open {}", place.display())).into()),
            Ok(file) => read_document(file, &place.display().to_string())?,
        };
        drv::parse(&bytes, options.dir()).within(|| place.display().to_string())
    })?;
    let shown = |path: &Option<StorePath>| path.as_ref().map(|path| options.dir().path(path));
    let modulo = checked.modulo.hash().map(|hash| hash.hex());
    let null = || "null".to_owned();
    let mut lines = String::new();
    for (name, path) in &checked.outputs {
        lines += &format!("{name} {}\n", shown(path).unwrap_or_else(null));
    }
    lines += &format!("modulo {}", modulo.clone().unwrap_or_else(null));
    options.answer(&lines, || {
        let outputs: Map<String, Value> =
            checked.outputs.iter().map(|(name, path)| (name.clone(), json!(shown(path)))).collect();
        json!({ "outputs": outputs, "modulo": modulo })
    })
}

/// Prints the form of `nix derivation show`; bytes that are not UTF-8 are shown as U+FFFD.
fn show(file: &DrvFile, options: &CommonOptions) -> Result<()> {
    let (drv, name) = read(file, options)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let outputs: Map<String, Value> =
        drv.outputs.iter().map(|(name, output)| (name.clone(), shown(output, options))).collect();
    let inputs: Map<String, Value> =
        drv.input_drvs.iter().map(|(path, names)| (options.dir().path(path), json!(names))).collect();
    let env: Map<String, Value> =
        drv.env.iter().map(|(key, value)| (text(key), json!(text(value)))).collect();
    let document = json!({ own_path(&drv, &name, options)?: {
        "args": drv.args.iter().map(|arg| text(arg)).collect::<Vec<_>>(),
        "builder": text(&drv.builder),
        "env": env,
        "inputDrvs": inputs,
        "inputSrcs": drv.input_srcs.iter().map(|path| options.dir().path(path)).collect::<Vec<_>>(),
        "name": name.as_str(),
        "outputs": outputs,
        "system": text(&drv.system),
    }});
    Ok(crate::cli::output::print(&crate::cli::output::document(&document, "  ")?)?)
}

fn shown(output: &Output, options: &CommonOptions) -> Value {
    let algorithm = |method: &Method, name: &str| match method {
        Method::Nar => format!("r:{name}"),
        Method::Flat => name.to_owned(),
    };
    match output {
        Output::Recipe(None) => json!({}),
        Output::Recipe(Some(path)) => json!({ "path": options.dir().path(path) }),
        Output::Fixed { path, method, hash } => json!({
            "hash": hash.hex(),
            "hashAlgo": algorithm(method, hash.algorithm().name()),
            "path": options.dir().path(path),
        }),
        Output::Floating { method, algorithm: made_by, impure } => {
            let mut shown = json!({ "hashAlgo": algorithm(method, made_by.name()) });
            if let (true, Some(object)) = (impure, shown.as_object_mut()) {
                object.insert("impure".into(), json!(true));
            }
            shown
        }
    }
}
