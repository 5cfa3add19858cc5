//! Layouts and archives, written and read back, as others write them, and damaged.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::base::digest::{DiffId, Digest};
use crate::base::platform::Platform;
use crate::base::reference::Reference;

use super::ImageError;
use super::archive::Archive;
use super::config::ImageConfig;
use super::layout::{Layout, Selector, blob_name};
use super::manifest::{Descriptor, IMAGE_NAME, Index, Manifest, REF_NAME, media_type};
use super::source::SourceImage;
use super::write::{Form, TargetImage, TargetLayer, write_archive, write_layout};

fn platform(text: &str) -> Platform {
    text.parse().unwrap()
}

fn name(text: &str) -> Reference {
    text.parse().unwrap()
}

/// An image with one layer, whose stream is `content`.
fn image(dir: &Path, content: &str, platform: &Platform, names: &[&str]) -> TargetImage {
    let path = dir.join(content);
    fs::write(&path, content).unwrap();
    let layer = Descriptor::of(media_type::OCI_LAYER, content.as_bytes());
    let mut config = ImageConfig::new(platform);
    config.rootfs.diff_ids = vec![DiffId(layer.digest)];
    let config = config.to_bytes();
    let target = TargetLayer { digest: layer.digest, size: layer.size, path };
    TargetImage {
        names: names.iter().map(|text| name(text)).collect(),
        manifest: Manifest::new(Descriptor::of(media_type::OCI_CONFIG, &config), vec![layer]).to_bytes(),
        config,
        platform: platform.clone(),
        layers: vec![target],
    }
}

fn content(image: &SourceImage) -> String {
    let mut text = String::new();
    image.layers[0].open().unwrap().read_to_string(&mut text).unwrap();
    text
}

fn open(bytes: &[u8]) -> Archive {
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, bytes).unwrap();
    Archive::open(file, Path::new("archive.tar")).unwrap()
}

fn put(dir: &Path, bytes: &[u8]) {
    fs::write(dir.join(blob_name(Digest::of(bytes))), bytes).unwrap();
}

#[test]
fn archives_are_read_back_and_are_the_same_bytes_every_time() {
    let dir = tempfile::tempdir().unwrap();
    let host = platform("linux/amd64");
    let images = [
        image(dir.path(), "one", &host, &["example/one:1", "example/one:2"]),
        image(dir.path(), "two", &host, &[]),
    ];
    for form in [Form::Oci, Form::Docker] {
        let bytes = write_archive(&images, form, Vec::new()).unwrap();
        assert_eq!(bytes, write_archive(&images, form, Vec::new()).unwrap());
        let read = open(&bytes).images(&host).unwrap();
        assert_eq!(read.iter().map(content).collect::<Vec<_>>(), ["one", "two"]);
        assert_eq!(read[0].names, images[0].names);
        assert_eq!(read[0].config_bytes, images[0].config);
        assert_eq!(read[0].manifest.as_ref(), Some(&images[0].manifest));
        assert!(read[1].names.is_empty());
    }
}

#[test]
fn layouts_grow_and_names_move() {
    let dir = tempfile::tempdir().unwrap();
    let host = platform("linux/amd64");
    let out = dir.path().join("out");
    let write = |content: &str, names: &[&str]| {
        write_layout(&[image(dir.path(), content, &host, names)], &out).unwrap();
    };
    let read =
        |selector: &Selector| Layout::open(&out).unwrap().find(selector, &host).map(|image| content(&image));
    write("one", &["a:v1"]);
    assert_eq!(read(&Selector::Default).unwrap(), "one");
    write("one", &["a:v0", "a:v1"]);
    assert_eq!(read(&Selector::Default).unwrap(), "one");
    write("two", &["a:v2"]);
    assert!(read(&Selector::Default).is_err());
    assert_eq!(read(&Selector::Tag("v1".into())).unwrap(), "one");
    write("three", &["a:v1"]);
    assert_eq!(read(&Selector::Tag("v1".into())).unwrap(), "three");
    assert_eq!(read(&Selector::Tag("v2".into())).unwrap(), "two");
    write("four", &["b"]);
    assert_eq!(read(&Selector::Default).unwrap(), "four");
    let error = read(&Selector::Tag("v3".into())).unwrap_err().to_string();
    assert!(error.contains("no image tagged `v3`; it has `v0`, `v2`, `v1`, `latest`"), "{error}");
}

/// A layout of single-platform images under a nested index, without a platform in one descriptor.
fn nested(dir: &Path) -> PathBuf {
    let out = dir.join("nested");
    let amd64 = image(dir, "amd64", &platform("linux/amd64"), &[]);
    let arm64 = image(dir, "arm64", &platform("linux/arm64"), &[]);
    write_layout(&[amd64.clone(), arm64.clone()], &out).unwrap();
    let mut first = Descriptor::of(media_type::OCI_MANIFEST, &arm64.manifest);
    first.platform = Some((&arm64.platform).into());
    let second = Descriptor::of(media_type::OCI_MANIFEST, &amd64.manifest);
    let inner = Index::new(vec![first, second]).to_bytes();
    put(&out, &inner);
    let mut middle = Descriptor::of(media_type::OCI_INDEX, &inner);
    middle.annotations = Some([(REF_NAME.to_owned(), "v1".to_owned())].into());
    let other = Descriptor::of("application/xml", b"something else");
    fs::write(out.join("index.json"), Index::new(vec![other, middle]).to_bytes()).unwrap();
    out
}

#[test]
fn platforms_are_found_in_nested_indexes_and_in_configs() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::open(&nested(dir.path())).unwrap();
    for text in ["amd64", "arm64"] {
        let found = layout.find(&Selector::Default, &platform(text)).unwrap();
        assert_eq!(content(&found), text);
        let digest = found.manifest_digest().unwrap();
        assert_eq!(content(&layout.find(&Selector::Digest(digest), &platform(text)).unwrap()), text);
    }
    let images = layout.images(&platform("linux/arm64")).unwrap();
    assert_eq!(images.iter().map(content).collect::<Vec<_>>(), ["arm64"]);
    let error = layout.find(&Selector::Tag("v1".into()), &platform("linux/s390x")).unwrap_err().to_string();
    assert!(error.ends_with("no image for linux/s390x; it has linux/amd64, linux/arm64"), "{error}");
}

#[test]
fn an_index_that_nests_without_end_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let out = nested(dir.path());
    let mut index = Index::new(vec![]).to_bytes();
    for _ in 0..6 {
        put(&out, &index);
        index = Index::new(vec![Descriptor::of(media_type::OCI_INDEX, &index)]).to_bytes();
    }
    fs::write(out.join("index.json"), index).unwrap();
    let error = Layout::open(&out).unwrap().images(&platform("linux")).unwrap_err();
    assert!(error.to_string().contains("nested"), "{error}");
}

#[test]
fn names_come_from_annotations_that_are_names() {
    let dir = tempfile::tempdir().unwrap();
    let out = nested(dir.path());
    for (key, value, names) in [
        (REF_NAME, "v1", &[][..]),
        (REF_NAME, "example/a:v1", &["example/a:v1"]),
        (IMAGE_NAME, "docker.io/library/a:v1", &["a:v1"]),
        (REF_NAME, "-:-", &[]),
    ] {
        let mut index = Layout::open(&out).unwrap().index().clone();
        index.manifests[1].annotations = Some([(key.to_owned(), value.to_owned())].into());
        fs::write(out.join("index.json"), index.to_bytes()).unwrap();
        let image = Layout::open(&out).unwrap().images(&platform("linux/amd64")).unwrap().remove(0);
        assert_eq!(image.names.iter().map(Reference::familiar).collect::<Vec<_>>(), names);
    }
}

#[test]
fn each_damaged_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let host = platform("linux/amd64");
    let image = image(dir.path(), "layer", &host, &["a"]);
    let files = [
        "oci-layout".to_owned(),
        "index.json".to_owned(),
        blob_name(Digest::of(&image.manifest)),
        blob_name(Digest::of(&image.config)),
    ];
    for (number, file) in files.iter().enumerate() {
        for damage in [&b""[..], b"{}", b"not json at all"] {
            let out = dir.path().join(format!("out{number}"));
            let _ = fs::remove_dir_all(&out);
            write_layout(std::slice::from_ref(&image), &out).unwrap();
            fs::write(out.join(file), damage).unwrap();
            let read = Layout::open(&out).and_then(|layout| layout.find(&Selector::Default, &host));
            let error = read.unwrap_err().to_string();
            assert!(number < 2 || error.contains("is damaged"), "{file}: {error}");
        }
        let out = dir.path().join(format!("out{number}"));
        fs::remove_file(out.join(file)).unwrap();
        let read = Layout::open(&out).and_then(|layout| layout.find(&Selector::Default, &host));
        assert!(read.is_err(), "{file}");
    }
}

/// `docker save` before version 25: a directory per layer, equal layers as links to one.
fn old_docker(config_name: &str, config: &[u8]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, bytes).unwrap();
    };
    let manifest = format!(
        r#"[{{"Config":"{config_name}","RepoTags":["a:1","example.org/b:2"],"Layers":["aa/layer.tar","bb/layer.tar"]}}]"#
    );
    add("aa/VERSION", b"1.0");
    add("aa/layer.tar", b"layer");
    add(config_name, config);
    add("manifest.json", manifest.as_bytes());
    add("repositories", b"{}");
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    tar.append_link(&mut header, "bb/layer.tar", "../aa/layer.tar").unwrap();
    tar.into_inner().unwrap()
}

#[test]
fn old_docker_archives_with_links_between_layers() {
    let host = platform("linux/amd64");
    let mut config = ImageConfig::new(&host);
    config.rootfs.diff_ids = vec![DiffId(Digest::of("layer")); 2];
    let bytes = config.to_bytes();
    let config_name = format!("{}.json", Digest::of(&bytes).hex());
    let images = open(&old_docker(&config_name, &bytes)).images(&host).unwrap();
    assert_eq!(images[0].names, [name("a:1"), name("example.org/b:2")]);
    assert_eq!(images[0].manifest, None);
    let mut second = String::new();
    images[0].layers[1].open().unwrap().read_to_string(&mut second).unwrap();
    assert_eq!((content(&images[0]).as_str(), second.as_str()), ("layer", "layer"));

    let wrong = format!("{}.json", Digest::of("other").hex());
    let error = open(&old_docker(&wrong, &bytes)).images(&host).unwrap_err();
    assert!(matches!(error, ImageError::Blob { .. }), "{error}");
    config.rootfs.diff_ids.pop();
    let error = open(&old_docker("config.json", &config.to_bytes())).images(&host).unwrap_err();
    assert!(error.to_string().contains("2 layers for a config that names 1"), "{error}");
}

#[test]
fn an_archive_that_is_neither_is_refused() {
    let error =
        open(&tar::Builder::new(Vec::new()).into_inner().unwrap()).images(&platform("linux")).unwrap_err();
    assert!(error.to_string().contains("neither"), "{error}");
    let dir = tempfile::tempdir().unwrap();
    assert!(Layout::open(dir.path()).unwrap_err().to_string().contains("no OCI image layout"));
    assert!(Layout::open(&dir.path().join("missing")).is_err());
    let path = dir.path().join("file");
    fs::write(&path, "text that is longer than one block of a tar archive".repeat(20)).unwrap();
    assert!(Archive::open(File::open(&path).unwrap(), &path).is_err());
}
