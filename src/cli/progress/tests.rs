use std::io::{self, Write};

use super::plain::Plain;
use super::rawjson::RawJson;
use super::state::State;
use super::tty::{Size, frame};
use super::*;
use crate::base::clock::Time;
use crate::base::event::{Stream, Unit, VertexId};

/// A writer whose text can be read afterwards.
#[derive(Clone, Default)]
struct Shown(Arc<Mutex<Vec<u8>>>);

impl Write for Shown {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lock(&self.0).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shown {
    fn text(&self) -> String {
        String::from_utf8(lock(&self.0).clone()).unwrap()
    }
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn declared(vertex: usize, name: &str, inputs: &[usize]) -> Event {
    let inputs = inputs.iter().copied().map(VertexId).collect();
    Event::Declared { vertex: VertexId(vertex), name: name.into(), inputs }
}

fn started(vertex: usize) -> Event {
    Event::Started { vertex: VertexId(vertex) }
}

fn cached(vertex: usize) -> Event {
    Event::Cached { vertex: VertexId(vertex), record: "abc".to_owned() }
}

fn log(vertex: usize, text: &str) -> Event {
    bytes(vertex, text.as_bytes())
}

fn bytes(vertex: usize, bytes: &[u8]) -> Event {
    Event::Log { vertex: VertexId(vertex), stream: Stream::Stdout, bytes: bytes.to_vec() }
}

fn finished(vertex: usize, took: u64) -> Event {
    Event::Finished { vertex: VertexId(vertex), took: ms(took) }
}

fn failed(vertex: usize, error: &str) -> Event {
    Event::Failed { vertex: VertexId(vertex), error: error.to_owned() }
}

fn progress(vertex: usize, what: &str, current: u64, total: Option<u64>) -> Event {
    Event::Progress { vertex: VertexId(vertex), what: what.into(), current, total, unit: Unit::Bytes }
}

fn plain(events: &[(u64, Event)]) -> String {
    let shown = Shown::default();
    let mut view = Plain::new(shown.clone());
    let mut last = 0;
    for (at, event) in events {
        view.event(event, ms(*at));
        last = *at;
    }
    view.finish(ms(last), true);
    shown.text()
}

#[test]
fn plain_steps_one_after_another() {
    insta::assert_snapshot!(plain(&[
        (0, declared(0, "[1/3] FROM busybox", &[])),
        (0, declared(1, "[2/3] RUN make", &[0])),
        (0, declared(2, "exporting to image", &[1])),
        (1, cached(0)),
        (10, started(1)),
        (133, log(1, "hel")),
        (143, log(1, "lo\nsecond\n")),
        (200, log(1, "no end")),
        (310, finished(1, 300)),
        (310, started(2)),
        (311, progress(2, "exporting layers", 0, Some(1_500_000))),
        (400, progress(2, "exporting layers", 1_500_000, Some(1_500_000))),
        (401, progress(2, "writing image sha256:abc", 1, Some(1))),
        (410, finished(2, 100)),
    ]), @r"
    #1 [1/3] FROM busybox
    #1 CACHED

    #2 [2/3] RUN make
    #2 0.133 hello
    #2 0.133 second
    #2 0.300 no end
    #2 DONE 0.3s

    #3 exporting to image
    #3 exporting layers 0B / 1.5MB
    #3 exporting layers 1.5MB / 1.5MB 0.1s done
    #3 writing image sha256:abc done
    #3 DONE 0.1s
    ");
}

#[test]
fn plain_steps_at_once_take_turns() {
    insta::assert_snapshot!(plain(&[
        (0, declared(0, "a", &[])),
        (0, declared(1, "b", &[])),
        (0, declared(2, "c", &[])),
        (0, started(0)),
        (1, started(1)),
        (2, started(2)),
        (10, log(0, "a1\n")),
        (11, log(1, "b1\n")),
        (12, log(0, "a2\n")),
        (1_000, finished(2, 998)),
        (2_000, log(0, "a3\n")),
        (6_000, log(1, "b2\n")),
        (6_001, log(0, "a4\n")),
        (7_000, finished(0, 7_000)),
        (7_001, finished(1, 7_000)),
    ]), @r"
    #1 a
    #1 0.010 a1
    #1 0.012 a2
    #1 ...

    #3 c
    #3 DONE 1.0s

    #2 b
    #2 0.010 b1
    #2 5.999 b2
    #2 ...

    #1 a
    #1 2.000 a3
    #1 6.001 a4
    #1 DONE 7.0s

    #2 b
    #2 DONE 7.0s
    ");
}

#[test]
fn plain_repeats_the_last_output_of_what_failed() {
    let events = [
        (0, declared(0, "[2/3] RUN false", &[])),
        (0, Event::Warning { vertex: None, message: "`as` in lower case (line 1)".to_owned() }),
        (0, started(0)),
        (10, bytes(0, b"\x1b[31mred\x1b[0m\n\xff")),
        (20, failed(0, "process \"/bin/sh -c false\" did not complete successfully: exit code: 1")),
    ];
    insta::assert_snapshot!(plain(&events), @r#"
    #1 [2/3] RUN false
    #1 0.010 red
    #1 0.020 �
    #1 ERROR: process "/bin/sh -c false" did not complete successfully: exit code: 1
    ------
     > [2/3] RUN false:
    0.010 red
    0.020 �
    ------

     1 warning found:
     - `as` in lower case (line 1)
    "#);
}

#[test]
fn plain_shows_a_line_without_an_end_after_a_while() {
    let shown = Shown::default();
    let mut view = Plain::new(shown.clone());
    view.event(&started(0), ms(0));
    assert_eq!(shown.text(), "");
    view.event(&log(0, "password: "), ms(100));
    view.tick(ms(200));
    assert_eq!(shown.text(), "#1 step 1\n");
    view.tick(ms(3_000));
    assert_eq!(shown.text(), "#1 step 1\n#1 3.000 password: \n");
}

fn state(events: &[(u64, Event)]) -> State {
    let mut state = State::default();
    for (at, event) in events {
        state.apply(event, ms(*at), |_, _| {});
    }
    state
}

fn picture(state: &State, now: u64, width: usize, height: Option<usize>) -> String {
    frame(state, ms(now), Size { width, height }, false, "").join("\n")
}

fn some_steps() -> Vec<(u64, Event)> {
    vec![
        (0, declared(0, "[1/3] FROM busybox", &[])),
        (0, declared(1, "[2/3] RUN make", &[0])),
        (0, declared(2, "[3/3] COPY a b", &[1])),
        (0, cached(0)),
        (100, started(1)),
        (200, log(1, "one\ntwo\nthree\nfour\nfive\nsix\nseven\npartial")),
        (300, progress(1, "hashing", 10, Some(20))),
    ]
}

#[test]
fn tty_picture() {
    insta::assert_snapshot!(picture(&state(&some_steps()), 3_300, 50, Some(24)), @r"
    [+] Building 3.3s (1/3)
     => CACHED [1/3] FROM busybox                0.0s
     => [2/3] RUN make                           3.2s
     => => hashing 10B / 20B                     3.0s
     => => # three
     => => # four
     => => # five
     => => # six
     => => # seven
     => => # partial
    ");
}

#[test]
fn tty_picture_keeps_to_its_height_and_width() {
    for height in [1, 4, 5, 6, 10] {
        let text = picture(&state(&some_steps()), 3_300, 50, Some(height));
        assert!(text.lines().count() < height.max(4), "{height}: {text}");
    }
    let state =
        state(&[(0, declared(0, &"日本".repeat(100), &[])), (0, started(0)), (1, log(0, &"x".repeat(500)))]);
    let text = picture(&state, 0, 40, Some(24));
    assert!(text.lines().all(|line| console::measure_text_width(line) <= 39), "{text}");
}

#[test]
fn tty_picture_at_the_end() {
    let mut events = some_steps();
    events.push((3_000, failed(1, "exit code: 2")));
    let state = state(&events);
    insta::assert_snapshot!(picture(&state, 3_300, 50, None), @r"
    [+] Building 3.3s (2/3)
     => CACHED [1/3] FROM busybox                0.0s
     => ERROR [2/3] RUN make                     2.9s
     => => hashing 10B / 20B                     3.0s
    ");
    let painted = frame(&state, ms(0), Size { width: 80, height: None }, true, " FINISHED").join("\n");
    assert!(painted.contains("FINISHED") && painted.contains("\x1b[31m => ERROR"), "{painted}");
}

#[test]
fn what_was_told_to_stop_is_no_failure() {
    let events = [(0, started(0)), (1, log(0, "x\n")), (2, failed(0, "the build was cancelled"))];
    assert_eq!(plain(&events), "#1 step 1\n#1 0.001 x\n#1 CANCELED\n");
    assert!(picture(&state(&events), 5, 40, None).contains(" => CANCELED step 1"));
}

#[test]
fn names_cannot_draw() {
    let state = state(&[(0, declared(0, "RUN \x1b[2Jx\ny", &[])), (0, started(0))]);
    assert!(picture(&state, 0, 80, None).contains(" => RUN x y "));
}

#[test]
fn rawjson_has_buildkits_shape() {
    let shown = Shown::default();
    let clock = Clock::Fixed(Time::from_seconds(1_700_000_000));
    let mut view = RawJson::new(shown.clone(), clock);
    for event in [
        declared(0, "[1/2] FROM a", &[]),
        declared(1, "[2/2] RUN b", &[0]),
        cached(0),
        started(1),
        log(1, "hi\n"),
        progress(1, "hashing", 1, Some(2)),
        Event::Warning { vertex: None, message: "w".to_owned() },
        failed(1, "exit code: 1"),
    ] {
        view.event(&event, ms(0));
    }
    let text = shown.text();
    insta::with_settings!({filters => vec![(r"sha256:([0-9a-f]{4})[0-9a-f]{60}", "$1…")]}, {
        insta::assert_snapshot!(text, @r#"
        {"vertexes":[{"digest":"0854…","name":"[1/2] FROM a"}]}
        {"vertexes":[{"digest":"698b…","inputs":["0854…"],"name":"[2/2] RUN b"}]}
        {"vertexes":[{"digest":"0854…","name":"[1/2] FROM a","started":"2023-11-14T22:13:20Z","cached":true,"completed":"2023-11-14T22:13:20Z"}]}
        {"vertexes":[{"digest":"698b…","inputs":["0854…"],"name":"[2/2] RUN b","started":"2023-11-14T22:13:20Z"}]}
        {"logs":[{"vertex":"698b…","stream":1,"data":"aGkK","timestamp":"2023-11-14T22:13:20Z"}]}
        {"statuses":[{"id":"hashing","vertex":"698b…","total":2,"current":1,"timestamp":"2023-11-14T22:13:20Z"}]}
        {"warnings":[{"level":1,"short":"dw=="}]}
        {"vertexes":[{"digest":"698b…","inputs":["0854…"],"name":"[2/2] RUN b","started":"2023-11-14T22:13:20Z","completed":"2023-11-14T22:13:20Z","error":"exit code: 1"}]}
        "#);
    });
}

#[test]
fn a_display_takes_events_from_many_threads_and_ends() {
    let display = Display::new(Mode::Quiet, false, false);
    display.send(started(0));
    display.finish(true);
    for (text, expected) in [("auto", Mode::Auto), ("rawjson", Mode::RawJson), ("quiet", Mode::Quiet)] {
        assert_eq!(text.parse(), Ok(expected));
    }
    assert!("fancy".parse::<Mode>().is_err());
}
