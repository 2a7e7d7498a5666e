//! What the reference model objects to, and what it lets pass, one small story each.

use super::{
    asked::{Asked, Manifest, Scan},
    history::History,
};
use crate::support::{Format, image, sha256};

const PATH: &str = "front.png";

struct Story {
    history: History,
    manifests: Vec<Manifest>,
}

impl Story {
    const fn new() -> Self {
        Self { history: History::new(), manifests: Vec::new() }
    }

    /// A manifest with one picture for the profile; of which content, it may declare.
    fn comes(&mut self, profile: u32, declares: Option<u32>) -> usize {
        let scan = Scan {
            path: PATH.to_owned(),
            format: Format::Png,
            content: image(Format::Png, declares.unwrap_or(999)),
            image_type: None,
            declares: declares.is_some(),
            reuses: true,
        };
        let number = self.manifests.len();
        let reference = Some(number.to_string());
        let entry = Asked { reference, profile, category: Some("PROOF_OF_IDENTITY"), scans: vec![scan], flaw: None };
        self.history.manifest_is_put();
        self.manifests.push(Manifest::new(format!("{number}.manifest.json"), vec![entry]));
        number
    }

    /// A picture is put in the place of `over`, or where nothing is; all manifests that are there still are after that.
    fn put(&mut self, number: u32, over: Option<u32>) {
        let at = self.history.moment();
        let over = over.map(|over| sha256(&image(Format::Png, over)));
        self.history.put(PATH, sha256(&image(Format::Png, number)), over.as_deref(), at);
        let lying = (0..self.manifests.len()).filter(|at| !self.history.stays[*at].is_over()).collect();
        self.history.lie_beside(lying);
    }

    fn objects_to(&self, manifest: usize, number: u32) -> bool {
        let entry = &self.manifests[manifest].entries[0];
        let sent = sha256(&image(Format::Png, number));
        self.history.objection(&self.manifests, manifest, entry, &entry.scans[0], &sent).is_some()
    }
}

#[test]
fn what_was_never_there_is_objected_to() {
    let mut story = Story::new();
    story.put(1, None);
    let first = story.comes(1, None);
    assert!(!story.objects_to(first, 1));
    assert!(story.objects_to(first, 2));
}

#[test]
fn what_was_put_after_the_manifest_was_taken_is_objected_to() {
    let mut story = Story::new();
    story.put(1, None);
    let first = story.comes(1, None);
    story.history.manifest_is_gone(first);
    story.put(2, None);
    assert!(!story.objects_to(first, 1));
    assert!(story.objects_to(first, 2));
}

#[test]
fn what_was_replaced_or_deleted_before_the_manifest_came_is_objected_to() {
    let mut story = Story::new();
    story.put(1, None);
    story.put(2, Some(1));
    let first = story.comes(1, None);
    assert!(story.objects_to(first, 1));
    assert!(!story.objects_to(first, 2));
    story.history.deleted(PATH, Some(&sha256(&image(Format::Png, 2))));
    let second = story.comes(1, None);
    assert!(!story.objects_to(first, 2), "it may have been taken before");
    assert!(story.objects_to(second, 2));
}

#[test]
fn what_differs_from_its_declaration_is_objected_to() {
    let mut story = Story::new();
    let first = story.comes(1, Some(1));
    story.put(1, None);
    story.put(2, Some(1));
    assert!(!story.objects_to(first, 1));
    assert!(story.objects_to(first, 2));
}

#[test]
fn what_replaced_another_while_two_waited_is_objected_to_if_both_had_been_seen() {
    for (profile, seen, declares, objects) in
        [(2, true, None, true), (2, false, None, false), (1, true, None, false), (2, true, Some(2), false)]
    {
        let mut story = Story::new();
        story.put(1, None);
        let (other, first) = (story.comes(profile, None), story.comes(1, declares));
        if seen {
            story.history.all_is_seen(&std::collections::BTreeSet::new());
        }
        story.put(2, Some(1));
        let later = story.comes(3, None);
        assert_eq!(story.objects_to(first, 2), objects, "{profile} {seen} {declares:?}");
        assert_eq!(story.objects_to(other, 2), seen && profile == 2, "{profile} {seen} {declares:?}");
        assert!(!story.objects_to(later, 2), "it came after that");
    }
}

#[test]
fn what_serves_the_manifest_that_was_seen_first_is_objected_to_for_the_second() {
    let mut story = Story::new();
    let first = story.comes(1, None);
    story.history.all_is_seen(&std::collections::BTreeSet::new());
    let second = story.comes(2, None);
    story.put(1, None);
    assert!(!story.objects_to(first, 1));
    assert!(story.objects_to(second, 1));
    // Another one may be for the second.
    story.put(2, None);
    assert!(!story.objects_to(second, 2));
    assert!(!story.objects_to(second, 1), "which of them was for the first is no longer certain");
}

#[test]
fn what_is_replaced_by_its_equal_is_not_disturbed() {
    let mut story = Story::new();
    story.put(1, None);
    let first = story.comes(1, None);
    assert!(!story.history.is_disturbed(&story.manifests, first));
    story.put(1, Some(1));
    assert!(!story.history.is_disturbed(&story.manifests, first));
    story.put(2, Some(1));
    assert!(story.history.is_disturbed(&story.manifests, first));
    assert!(!story.history.is_contended(&story.manifests, first));
    story.comes(2, None);
    assert!(story.history.is_contended(&story.manifests, first));
}
