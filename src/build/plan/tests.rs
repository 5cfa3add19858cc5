//! Dockerfiles of `fixtures/plan` to plans. A line `#: option=value` in one is an option of the
//! build; the images are a table.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};

use super::images::{ImageSource, Images, ImagesError, ResolvedImage};
use super::request::{NamedContext, NoCache, PlanRequest};
use super::{Plan, PlanError, dump, lower};
use crate::base::digest::{Digest, LayerId};
use crate::base::platform::Platform;
use crate::dockerfile::instruction::{Dockerfile, RunNetwork};
use crate::image::config::{History, ImageConfig};

/// Images by name, and which were asked for.
#[derive(Default)]
struct Table {
    asked: RefCell<Vec<String>>,
}

impl Images for Table {
    fn resolve(&self, image: ImageSource<'_>, platform: &Platform) -> Result<ResolvedImage, ImagesError> {
        let name = match image {
            ImageSource::Name(reference) => reference.familiar(),
            ImageSource::Layout(layout) => layout.to_owned(),
        };
        self.asked.borrow_mut().push(name.clone());
        let mut config = ImageConfig::new(platform);
        config.created = Some("2020-01-01T00:00:00Z".to_owned());
        config.history = vec![History { created_by: "base".to_owned(), ..History::default() }; 2];
        let run = &mut config.config;
        match name.as_str() {
            "busybox:latest" | "busybox:1.36" => run.env = vec!["PATH=/bin".to_owned()],
            "debian:latest" => {
                run.working_dir = "srv//app/".to_owned();
                run.user = "daemon".to_owned();
                run.on_build = Vec::new();
            }
            "some/dir:tag" => run.env = vec!["GO=1".to_owned()],
            "with-command:latest" => {
                run.entrypoint = Some(vec!["/old".to_owned()]);
                run.cmd = Some(vec!["argument".to_owned()]);
            }
            "triggers:latest" => {
                let triggers =
                    ["ARG T=1", "env X=$T", "COPY --chown=$T . /src", "RUN make", "ENTRYPOINT [\"/x\"]"];
                run.on_build = triggers.map(str::to_owned).to_vec();
                run.cmd = Some(vec!["inherited".to_owned()]);
            }
            "bad-trigger:latest" => run.on_build = vec!["RNU x".to_owned()],
            "bad-expansion:latest" => run.on_build = vec!["WORKDIR ${X:?must be set}".to_owned()],
            "arm-only:latest" => config.architecture = "arm64".to_owned(),
            "other-platform:latest" => {
                return Err(ImagesError::Platform { found: vec!["linux/s390x".parse().unwrap()] });
            }
            "broken:latest" => return Err(ImagesError::Failed("reading config: no such file".into())),
            "bussybox:latest" => return Err(ImagesError::NotFound { nearest: Some("busybox".to_owned()) }),
            _ => return Err(ImagesError::NotFound { nearest: None }),
        }
        let layer = |number: usize| LayerId(Digest::of(format!("{name}{number}")));
        let layers = if name.starts_with("debian") { vec![layer(0), layer(1)] } else { vec![layer(0)] };
        let digest = name.starts_with("debian").then(|| Digest::of("manifest"));
        Ok(ResolvedImage { config, layers, digest })
    }
}

/// A request with the options written into the Dockerfile.
fn request<'a>(dockerfile: &'a Dockerfile, text: &str) -> PlanRequest<'a> {
    let mut request = PlanRequest { host: "linux/amd64".parse().unwrap(), ..PlanRequest::new(dockerfile) };
    for line in text.lines().filter_map(|line| line.strip_prefix("#: ")) {
        let (option, value) = line.split_once('=').unwrap();
        let (key, rest) = value.split_once('=').unwrap_or((value, ""));
        let (key, rest) = (key.to_owned(), rest.to_owned());
        match option {
            "target" => request.target = Some(key),
            "platform" => request.platform = Some(key.parse().unwrap()),
            "build-arg" => drop(request.build_args.insert(key, rest)),
            "label" => request.labels.push((key, rest)),
            "network" => request.network = RunNetwork::Host,
            "add-host" => request.add_hosts.push((key, rest)),
            "shm-size" => request.shm_size = Some(key.parse().unwrap()),
            "ulimit" => {
                let (soft, hard) = rest.split_once(':').unwrap();
                request.ulimits.push((key, soft.parse().unwrap(), hard.parse().unwrap()));
            }
            "no-cache" => request.no_cache = NoCache::All,
            "no-cache-filter" => request.no_cache = NoCache::Stages(vec![key]),
            "context" => {
                let context = match rest.split_once("://") {
                    Some(("docker-image", name)) => NamedContext::Image(name.parse().unwrap()),
                    Some((_, layout)) => NamedContext::Layout(layout.to_owned()),
                    None => NamedContext::Directory,
                };
                request.named_contexts.push((key, context));
            }
            other => panic!("unknown option {other}"),
        }
    }
    request
}

fn planned(text: &str) -> (Result<Plan, PlanError>, Vec<String>) {
    let dockerfile = match crate::dockerfile::parse("Dockerfile", text.as_bytes()) {
        Ok(dockerfile) => dockerfile,
        Err(faults) => panic!("{}", faults.render(false)),
    };
    let table = Table::default();
    let plan = lower(&request(&dockerfile, text), &table);
    (plan, table.asked.into_inner())
}

fn plan(text: &str) -> Plan {
    match planned(text).0 {
        Ok(plan) => plan,
        Err(error) => panic!("{}", told(&error)),
    }
}

fn told(error: &PlanError) -> String {
    match error {
        PlanError::Dockerfile(faults) => faults.render(false),
        other => other.to_string(),
    }
}

/// The Dockerfiles of a directory of fixtures, with their names.
fn fixtures(directory: &str) -> Vec<(String, String)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/plan").join(directory);
    let mut paths: Vec<PathBuf> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "Dockerfile"));
    paths.sort();
    let read = |path: &PathBuf| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        (name, fs::read_to_string(path).unwrap())
    };
    paths.iter().map(read).collect()
}

fn snapshot(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../../../fixtures/plan");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name.to_owned(), text));
}

#[test]
fn plans() {
    let fixtures = fixtures("");
    assert!(fixtures.len() > 20);
    for (name, text) in fixtures {
        snapshot(&name, &dump(&plan(&text)));
    }
}

#[test]
fn faults() {
    let mut all = String::new();
    for (name, text) in fixtures("faults") {
        let (plan, _) = planned(&text);
        let error = plan.map(|plan| dump(&plan)).expect_err(&name);
        all.push_str(&format!("== {name}\n{}\n\n", told(&error)));
    }
    snapshot("faults", &all);
}

#[test]
fn inputs_stand_before_their_users() {
    for (name, text) in fixtures("") {
        let plan = plan(&text);
        for (at, vertex) in plan.graph.vertices.iter().enumerate() {
            assert!(vertex.operation.inputs().iter().all(|input| input.0 < at), "{name} #{at}");
            assert!(!vertex.name.contains('\n') && !vertex.name.is_empty(), "{name} #{at}");
        }
        assert!(plan.result.0 < plan.graph.vertices.len(), "{name}");
    }
}

#[test]
fn images_are_asked_for_once_and_only_where_reached() {
    let text = "FROM busybox AS a\nFROM busybox AS b\nFROM nothing AS c\nCOPY --from=debian x y\nFROM a\n\
                COPY --from=b / /\nCOPY --from=busybox:latest / /";
    assert_eq!(planned(text).1, ["busybox:latest"]);
}

#[test]
fn the_target_is_looked_up_before_any_image() {
    let (plan, asked) = planned("#: target=prodd\nFROM nothing AS prod\n");
    assert_eq!(
        plan.unwrap_err().to_string(),
        "target stage `prodd` could not be found; did you mean `prod`?"
    );
    assert!(asked.is_empty());
}

#[test]
fn an_epoch_is_a_number() {
    let (plan, _) = planned("#: build-arg=SOURCE_DATE_EPOCH=today\nFROM scratch\nCOPY a b");
    assert!(matches!(plan, Err(PlanError::BuildArgument { name: "SOURCE_DATE_EPOCH", .. })));
}

#[test]
fn names_of_stages_and_comments_change_no_operation() {
    let operations = |text: &str| -> Vec<String> {
        plan(text).graph.vertices.iter().map(|vertex| format!("{:?}", vertex.operation)).collect()
    };
    let one = "FROM busybox AS a\nRUN x\nFROM scratch\nCOPY --from=a /x /y";
    let two = "FROM busybox AS other\n# comment\nRUN  x\n\nFROM scratch\nCOPY --from=0 /x /y";
    assert_eq!(operations(one), operations(two));
}

#[test]
fn ten_thousand_stages_are_no_recursion() {
    let mut text = "FROM busybox AS s0\nRUN x\n".to_owned();
    for number in 1..10_000 {
        text.push_str(&format!("FROM s{} AS s{number}\nENV A=$A$B\n", number - 1));
    }
    let plan = plan(&text);
    assert_eq!(plan.graph.vertices.len(), 2);
    assert_eq!(plan.history.len(), 10_000);
}

#[test]
fn variables_cannot_fill_the_memory() {
    let fault = |text: &str| told(&planned(text).0.expect_err("it is too large"));
    let mut text = format!("FROM busybox AS a\nENV A={}\n", "x".repeat(1_000_000));
    let base = text.clone();
    text.push_str(&(0..1000).map(|number| format!("ENV A{number}=$A\n")).collect::<String>());
    assert!(fault(&text).contains("more than 128 MiB of variables"));
    let runs = base.clone() + &"RUN x\n".repeat(1000);
    assert!(fault(&runs).contains("more than 128 MiB of variables"));
    let children: String = (0..1000).map(|number| format!("FROM a AS a{number}\nENV x=y\n")).collect();
    let copies: String = (0..1000).map(|number| format!("COPY --from=a{number} / /\n")).collect();
    assert!(
        fault(&format!("{base}{children}FROM scratch\n{copies}")).contains("more than 128 MiB of variables")
    );
}

#[test]
fn faults_come_to_an_end() {
    let text = format!("FROM busybox\n{}", "STOPSIGNAL $x\n".repeat(10_000));
    let (plan, _) = planned(&text);
    assert!(matches!(plan, Err(PlanError::Dockerfile(faults)) if faults.all.len() == 50));
}

proptest::proptest! {
    #[test]
    fn no_instruction_stops_the_planner(
        lines in proptest::collection::vec("(FROM|RUN|COPY|ADD|ENV|ARG|EXPOSE|USER|WORKDIR|VOLUME|STOPSIGNAL|LABEL|ONBUILD COPY) \
                (busybox|scratch|a|--from=[a0-9] [a/.]{1,4}|--mount=target=[a/.]{1,4}|[$a-c{}:=/.]{1,6}) ?(AS a|a=\\$b|/x/|<<EOF)?", 0..8)
    ) {
        let text = format!("FROM busybox AS a\n{}\n", lines.join("\n"));
        if let Ok(dockerfile) = crate::dockerfile::parse("Dockerfile", text.as_bytes()) {
            match lower(&PlanRequest::new(&dockerfile), &Table::default()) {
                Ok(plan) => drop(dump(&plan)),
                Err(error) => proptest::prop_assert!(!told(&error).is_empty()),
            }
        }
    }
}
