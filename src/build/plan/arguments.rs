//! Build arguments with a meaning of their own (reference, "Predefined ARGs", "Automatic platform
//! ARGs in the global scope", "BuildKit built-in build args").

use std::collections::BTreeMap;

use super::PlanError;
use super::request::PlanRequest;
use super::scope::Variables;

/// The predefined proxy arguments in lower case; each goes by its upper-case name too.
const PROXIES: [&str; 5] = ["http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"];
const EPOCH: &str = "SOURCE_DATE_EPOCH";
const PLATFORM: [&str; 9] = [
    "BUILDPLATFORM",
    "BUILDOS",
    "BUILDARCH",
    "BUILDVARIANT",
    "TARGETPLATFORM",
    "TARGETOS",
    "TARGETARCH",
    "TARGETVARIANT",
    "TARGETSTAGE",
];

/// The variables that the global scope starts with; a build argument of the name overrides.
pub(super) fn automatic(request: &PlanRequest<'_>) -> Variables {
    let (build, target) = (&request.host, request.target_platform());
    let stage = request.target.as_deref().filter(|name| !name.is_empty()).unwrap_or("default");
    let values = [
        build.to_string(),
        build.os.clone(),
        build.architecture.clone(),
        build.variant.clone(),
        target.to_string(),
        target.os.clone(),
        target.architecture.clone(),
        target.variant.clone(),
        stage.to_owned(),
    ];
    let mut variables = Variables::default();
    for (name, value) in PLATFORM.into_iter().zip(values) {
        variables.set(name, request.build_args.get(name).cloned().unwrap_or(value));
    }
    variables
}

/// The proxy variables of a RUN: given as build arguments, under both spellings, without those
/// that `environment` has.
pub(super) fn proxies(build_args: &BTreeMap<String, String>, environment: &Variables) -> Vec<String> {
    let mut pairs = Vec::new();
    for name in PROXIES {
        let given = build_args.iter().rfind(|(given, _)| given.eq_ignore_ascii_case(name));
        let Some((_, value)) = given else { continue };
        for spelling in [name.to_ascii_uppercase(), name.to_owned()] {
            if environment.get(&spelling).is_none() {
                pairs.push(format!("{spelling}={value}"));
            }
        }
    }
    pairs
}

/// Whether `name` has a meaning without an ARG that declares it.
pub(super) fn is_predefined(name: &str) -> bool {
    name.starts_with("BUILDKIT_")
        || name == EPOCH
        || PLATFORM.contains(&name)
        || PROXIES.iter().any(|proxy| name.eq_ignore_ascii_case(proxy))
}

/// The host name of RUN steps.
pub(super) fn hostname(request: &PlanRequest<'_>) -> String {
    match request.build_args.get("BUILDKIT_SANDBOX_HOSTNAME") {
        Some(name) if !name.is_empty() => name.clone(),
        _ => request.hostname.clone(),
    }
}

/// The name of a cache mount's directory, in the name space of the build if it has one.
pub(super) fn cache_id(request: &PlanRequest<'_>, id: String) -> String {
    match request.build_args.get("BUILDKIT_CACHE_MOUNT_NS") {
        Some(space) if !space.is_empty() => format!("{space}/{id}"),
        _ => id,
    }
}

/// SOURCE_DATE_EPOCH in seconds, from the build arguments or the global ARG.
pub(super) fn source_date_epoch(
    request: &PlanRequest<'_>,
    globals: &Variables,
) -> Result<Option<i64>, PlanError> {
    let value = request.build_args.get(EPOCH).map(String::as_str).or_else(|| globals.get(EPOCH));
    let Some(value) = value.filter(|value| !value.is_empty()) else { return Ok(None) };
    value.parse().map(Some).map_err(|_| PlanError::BuildArgument {
        name: EPOCH,
        value: value.to_owned(),
        expected: "it is a number of seconds since 1970",
    })
}
