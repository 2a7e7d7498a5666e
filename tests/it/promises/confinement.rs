//! A manifest leads to nothing outside its drop.

use std::{
    os::unix::{fs::symlink, net::UnixListener},
    process::Command,
};

use crate::support::{Format, Site, entry, image, promise, sha256};

#[test]
fn no_way_out_of_the_drop_is_taken() {
    promise!(
        "Nothing outside a drop is read, moved or deleted because a manifest says so: no `..`, no absolute path, no symbolic link, no device and no FIFO."
    );
    let site = Site::impatient();
    let secret = image(Format::Png, 99);
    site.write("outside/secret.png", &secret);
    site.put("good.png", image(Format::Png, 1));
    symlink(site.at("outside/secret.png"), site.in_drop("link.png")).unwrap();
    symlink(site.at("outside"), site.in_drop("folder")).unwrap();
    symlink("/dev/zero", site.in_drop("device.png")).unwrap();
    assert!(Command::new("mkfifo").arg(site.in_drop("fifo.png")).status().unwrap().success());
    let _socket = UnixListener::bind(site.in_drop("socket.png")).unwrap();
    let absolute = site.at("outside/secret.png");
    let ways = [
        "../outside/secret.png",
        "x/../../outside/secret.png",
        absolute.to_str().unwrap(),
        "/dev/zero",
        "link.png",
        "folder/secret.png",
        "device.png",
        "fifo.png",
        "socket.png",
    ];
    let mut documents = vec![entry("good", 0, "good.png")];
    documents.extend((1..).zip(ways).map(|(number, way)| entry(way, number, way)));
    site.put_documents("a.manifest.json", &documents);
    site.run_until_given_up().expect(1);

    let receipt = site.receipt("a.manifest.json");
    assert_eq!(receipt["counts"]["created"], 1, "{receipt}");
    for entry in &receipt["entries"].as_array().unwrap()[1..] {
        assert!(entry["errors"][0]["reason"].is_string() && entry["document_id"].is_null(), "{entry}");
    }
    assert_eq!(site.image_digests(), [sha256(&image(Format::Png, 1))]);
    assert_eq!(std::fs::read(site.at("outside/secret.png")).unwrap(), secret, "it is where it was");
    assert_eq!(std::fs::read_dir(site.at("outside")).unwrap().count(), 1);
}
