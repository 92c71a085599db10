//! The contract against those of all releases, as `released/` keeps them: fields, values and methods are added, never changed.
//! `scripts/check_contract.sh` asks buf about the last one, too; this needs nothing but what lies here.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use prost::Message;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorSet};
use std::collections::BTreeMap;
use std::path::Path;

/// What callers rely on, each by what stands for it on the wire.
type Promises = BTreeMap<String, String>;

fn enumeration(promises: &mut Promises, scope: &str, of: &EnumDescriptorProto) {
    for value in &of.value {
        promises.insert(format!("{scope}.{} {}", of.name(), value.number()), value.name().to_owned());
    }
}

fn message(promises: &mut Promises, scope: &str, of: &DescriptorProto) {
    let name = format!("{scope}.{}", of.name());
    promises.insert(name.clone(), "a message".to_owned());
    for field in &of.field {
        // A field that others exclude is another one.
        let choice = field.oneof_index.map(|index| of.oneof_decl[usize::try_from(index).unwrap()].name());
        let is = format!("{} {:?} {:?} {} {choice:?}", field.name(), field.label(), field.r#type(), field.type_name());
        promises.insert(format!("{name} {}", field.number()), is);
    }
    of.enum_type.iter().for_each(|one| enumeration(promises, &name, one));
    of.nested_type.iter().for_each(|one| message(promises, &name, one));
}

fn promises(set: &FileDescriptorSet) -> Promises {
    let mut promises = Promises::new();
    // Google's own keep their promises without us.
    for file in set.file.iter().filter(|file| file.package().starts_with("interaction.")) {
        let scope = file.package();
        file.enum_type.iter().for_each(|one| enumeration(&mut promises, scope, one));
        file.message_type.iter().for_each(|one| message(&mut promises, scope, one));
        for service in &file.service {
            for method in &service.method {
                let streams = (method.client_streaming(), method.server_streaming());
                let is = format!("{} -> {} {streams:?}", method.input_type(), method.output_type());
                promises.insert(format!("{scope}.{}/{}", service.name(), method.name()), is);
            }
        }
    }
    promises
}

/// What was promised and is not so any more.
fn broken(promised: &Promises, now: &Promises) -> Vec<String> {
    let broken = promised.iter().filter(|(what, is)| now.get(*what) != Some(*is));
    broken.map(|(what, is)| format!("{what} was {is}, and is {:?}", now.get(what))).collect()
}

fn now() -> Promises {
    promises(&FileDescriptorSet::decode(interaction_proto::FILE_DESCRIPTOR_SET).unwrap())
}

#[test]
fn what_a_release_promised_is_kept() {
    let mut releases = 0;
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("released")).unwrap() {
        let path = entry.unwrap().path();
        let promised = promises(&FileDescriptorSet::decode(&*std::fs::read(&path).unwrap()).unwrap());
        assert!(promised.len() > 100, "{}: {} promises", path.display(), promised.len());
        assert_eq!(broken(&promised, &now()), Vec::<String>::new(), "{}", path.display());
        releases += 1;
    }
    assert!(releases > 0);
}

#[test]
fn what_would_break_callers_is_found() {
    let like = "interaction.v1.LikeRequest";
    for (what, is) in [
        (format!("{like} 9"), "user_id Optional Int64  None"),
        (format!("{like} 1"), "user_id Optional Int32  None"),
        (format!("{like} 1"), "user Optional Int64  None"),
        ("interaction.v1.ResourceType 3".to_owned(), "RESOURCE_TYPE_POST"),
        ("interaction.v1.InteractionService/Love".to_owned(), ".a -> .b (false, false)"),
    ] {
        let promised = Promises::from([(what, is.to_owned())]);
        assert_eq!(broken(&promised, &now()).len(), 1, "{promised:?}");
    }
    let kept = Promises::from([(format!("{like} 1"), "user_id Optional Int64  None".to_owned())]);
    assert_eq!(broken(&kept, &now()), Vec::<String>::new());
}
