//! The command of a container and its environment, as Docker puts them together from the image
//! and the options.

use super::error::ContainerError;
use super::options::RunOptions;
use crate::image::config::RunConfig;
use crate::sandbox::defaults;

/// The command with its arguments: the entrypoint, then the CMD or what replaces it.
pub(super) fn command(image: &RunConfig, options: &RunOptions) -> Result<Vec<String>, ContainerError> {
    let mut command = match &options.entrypoint {
        Some(entrypoint) => entrypoint.clone(),
        None => image.entrypoint.clone().unwrap_or_default(),
    };
    if !options.command.is_empty() {
        command.extend(options.command.iter().cloned());
    } else if options.entrypoint.is_none() {
        command.extend(image.cmd.iter().flatten().cloned());
    }
    match command.first() {
        Some(first) if !first.is_empty() => Ok(command),
        _ => Err(ContainerError::NoCommand),
    }
}

/// The environment: what every container has, then the image's, then the options', equal names
/// replaced where they stand; HOME last, if nobody set it.
pub(super) fn environment(
    image: &RunConfig,
    options: &RunOptions,
    hostname: &str,
    home: &str,
) -> Vec<String> {
    let mut env = vec![format!("PATH={}", defaults::PATH), format!("HOSTNAME={hostname}")];
    if options.tty {
        env.push("TERM=xterm".to_owned());
    }
    for variable in &image.env {
        set(&mut env, variable.clone());
    }
    for (name, value) in &options.env {
        set(&mut env, format!("{name}={value}"));
    }
    if !env.iter().any(|variable| variable.starts_with("HOME=")) {
        env.push(format!("HOME={home}"));
    }
    env
}

fn set(env: &mut Vec<String>, variable: String) {
    let name = |variable: &str| variable.split_once('=').map_or(variable, |(name, _)| name).to_owned();
    let new = name(&variable);
    match env.iter_mut().find(|known| name(known) == new) {
        Some(known) => *known = variable,
        None => env.push(variable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn entrypoint_and_command() {
        let image = |entrypoint: &[&str], cmd: &[&str]| RunConfig {
            entrypoint: (!entrypoint.is_empty()).then(|| words(entrypoint)),
            cmd: (!cmd.is_empty()).then(|| words(cmd)),
            ..RunConfig::default()
        };
        let options = |entrypoint: Option<&[&str]>, command: &[&str]| RunOptions {
            entrypoint: entrypoint.map(words),
            command: words(command),
            ..RunOptions::default()
        };
        for (image, options, wanted) in [
            (image(&["e"], &["c"]), options(None, &[]), "e c"),
            (image(&["e"], &["c"]), options(None, &["x", "y"]), "e x y"),
            (image(&["e"], &["c"]), options(Some(&["o"]), &[]), "o"),
            (image(&["e"], &["c"]), options(Some(&["o"]), &["x"]), "o x"),
            (image(&["e"], &["c"]), options(Some(&[]), &["x"]), "x"),
            (image(&[], &["c", "d"]), options(None, &[]), "c d"),
        ] {
            assert_eq!(command(&image, &options).unwrap().join(" "), wanted);
        }
        for (image, options) in [
            (image(&[], &[]), options(None, &[])),
            (image(&["e"], &["c"]), options(Some(&[]), &[])),
            (image(&[], &[""]), options(None, &[])),
        ] {
            assert!(matches!(command(&image, &options), Err(ContainerError::NoCommand)));
        }
    }

    #[test]
    fn names_are_replaced_where_they_stand() {
        let image = RunConfig { env: words(&["PATH=/bin", "A=1", "B"]), ..RunConfig::default() };
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut options = RunOptions { env: vec![pair("A", "2=3"), pair("C", "")], ..RunOptions::default() };
        let env = environment(&image, &options, "box", "/root");
        assert_eq!(env, ["PATH=/bin", "HOSTNAME=box", "A=2=3", "B", "C=", "HOME=/root"]);
        options.tty = true;
        options.env = vec![pair("TERM", "vt100"), pair("HOME", "/x")];
        let env = environment(&RunConfig::default(), &options, "box", "/root");
        assert_eq!(env[2..], ["TERM=vt100", "HOME=/x"]);
    }
}
