use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::*;
use crate::digest::ObjectHasher;

/// What the signing tool made, and the model that it was shown.
macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!("../../tests/model_signing/", $name))
    };
}

/// The model's files, and a card.
const FILES: [(&str, &[u8]); 4] = [
    ("README.md", fixture!("model/README.md")),
    ("card.toml", b"card"),
    ("tiny.gguf", fixture!("model/tiny.gguf")),
    ("tokenizer/vocab.txt", fixture!("model/tokenizer/vocab.txt")),
];
const P256: &[u8] = fixture!("p256.sig");

fn file(path: &str, bytes: &[u8]) -> ItemFile {
    let mut hasher = ObjectHasher::new(bytes.len() as u64);
    hasher.update(bytes);
    ItemFile::new(FilePath::try_from(path.to_owned()).unwrap(), hasher.finish().unwrap())
}

/// A manifest of files, with a signature among them.
fn manifest(id: &str, files: &[(&str, &[u8])], signature: &[u8]) -> Manifest {
    let mut files: Vec<ItemFile> = files.iter().map(|(path, bytes)| file(path, bytes)).collect();
    files.push(file(SIGNATURE, signature));
    Manifest {
        format: crate::manifest::FORMAT,
        id: id.parse().unwrap(),
        title: "Tiny".to_owned(),
        licence: "MIT".to_owned(),
        sites: None,
        files,
    }
}

type Outcome = Result<Option<ModelSignature>, ModelSignatureError>;

fn judged(files: &[(&str, &[u8])], signature: &[u8], signers: &[SignerKey]) -> Outcome {
    let manifest = manifest("vendor/model/tiny/1.json", files, signature);
    manifest.check().unwrap();
    check(&manifest, signers, |_| Ok(signature.to_vec()))
}

/// The outcome with the model as it is.
fn of(signature: &[u8], signers: &[SignerKey]) -> Outcome {
    judged(&FILES, signature, signers)
}

fn refused(outcome: Outcome, expected: &str) {
    match outcome {
        Ok(found) => panic!("expected '{expected}', got {found:?}"),
        Err(error) => assert!(error.to_string().contains(expected), "{expected}: {error}"),
    }
}

fn key(pem: &[u8]) -> SignerKey {
    SignerKey::parse(std::str::from_utf8(pem).unwrap()).unwrap()
}

fn known() -> Vec<SignerKey> {
    vec![key(fixture!("p521.pub")), key(fixture!("p384.pub")), key(fixture!("p256.pub"))]
}

fn known_signer(pem: &[u8], files_left_out: u64) -> Option<ModelSignature> {
    let signer = Signer::Known { key_id: digest::sha256(pem) };
    Some(ModelSignature { signer, files_left_out })
}

#[test]
fn what_the_tool_signs_is_verified() {
    let p256 = fixture!("p256.pub");
    for (signature, pem, left_out) in [
        (P256, p256.as_slice(), 0),
        (fixture!("p384.sig"), fixture!("p384.pub"), 0),
        (fixture!("p521.sig"), fixture!("p521.pub"), 0),
        (fixture!("blake3.sig"), p256, 0),
        (fixture!("ignoring.sig"), p256, 1),
        (fixture!("older.sig"), p256, 0),
    ] {
        assert_eq!(of(signature, &known()).unwrap(), known_signer(pem, left_out));
    }
    let one = [("card.toml", b"card".as_slice()), ("any.gguf", fixture!("model/tiny.gguf"))];
    let signature = fixture!("one-file.sig");
    assert_eq!(judged(&one, signature, &known()).unwrap(), known_signer(p256, 0));
    refused(of(signature, &known()), "without its name, and the item has several");
}

#[test]
fn who_is_not_known_is_told_and_vouches_for_nothing() {
    let told = |signature: &[u8], signers: &[SignerKey]| {
        of(signature, signers).unwrap().unwrap().to_string()
    };
    let hint = digest::sha256(fixture!("p256.pub"));
    let unknown = told(P256, &[]);
    assert_eq!(
        unknown,
        format!("fits the files; signer not checked: the key {hint} is not known here")
    );
    assert_eq!(told(P256, &[key(fixture!("p384.pub"))]), unknown);
    assert!(told(fixture!("ignoring.sig"), &[]).ends_with("not known here; 1 file is left out"));
    let anonymous =
        edited(P256, |bundle| bundle["verificationMaterial"] = json!({"publicKey": {}}));
    assert!(told(&anonymous, &[]).contains("no known key signed it"));
    // The files count whoever signed.
    let unchecked =
        "signer not checked: certificate or keyless signatures cannot be checked offline here";
    let certificate = fixture!("certificate.sig");
    assert!(told(certificate, &known()).contains(unchecked));
    let keyless = edited(certificate, |bundle| {
        bundle["verificationMaterial"] =
            json!({"certificate": {"rawBytes": ""}, "tlogEntries": []});
    });
    assert!(told(&keyless, &known()).contains(unchecked));
    for signature in [P256, certificate, &keyless] {
        refused(
            judged(&replaced("tiny.gguf", b"Weights\n"), signature, &[]),
            "tiny.gguf is not the file",
        );
    }
}

#[test]
fn where_there_is_none_none_is_asked_for() {
    let broken = b"no signature".as_slice();
    for id in ["vendor/document/tiny/1.json", "vendor/image/tiny/1.json"] {
        let unread = |_: &ItemFile| panic!("nothing is read");
        assert_eq!(check(&manifest(id, &FILES, broken), &[], unread).unwrap(), None);
    }
    let mut without = manifest("vendor/model/tiny/1.json", &FILES, broken);
    without.files.pop();
    assert_eq!(check(&without, &[], |_| panic!("nothing is read")).unwrap(), None);
    // An adapter's counts as a model's does.
    let adapter = manifest("vendor/adapter/tiny/1.json", &FILES, P256);
    let found = check(&adapter, &known(), |_| Ok(P256.to_vec())).unwrap();
    assert_eq!(found, known_signer(fixture!("p256.pub"), 0));
}

#[test]
fn the_file_is_bounded_and_is_the_one_that_was_signed() {
    let mut long = manifest("vendor/model/tiny/1.json", &FILES, P256);
    long.files.last_mut().unwrap().bytes = SIGNATURE_BYTES_MAX + 1;
    refused(check(&long, &[], |_| panic!("nothing is read")), "at most");
    let manifest = manifest("vendor/model/tiny/1.json", &FILES, P256);
    refused(check(&manifest, &[], |_| Ok(fixture!("p384.sig").to_vec())), "not what was signed");
    refused(check(&manifest, &[], |_| Err(io::ErrorKind::NotFound.into())), "cannot be read");
}

/// The model with one file changed, or one more.
fn replaced<'a>(name: &'a str, bytes: &'a [u8]) -> Vec<(&'a str, &'a [u8])> {
    let mut files: Vec<_> = FILES.into_iter().filter(|(path, _)| *path != name).collect();
    files.push((name, bytes));
    files
}

#[test]
fn files_that_were_not_signed_are_refused() {
    for signature in [P256, fixture!("blake3.sig")] {
        for (name, bytes) in FILES {
            let flipped = [&[bytes[0] ^ 1], &bytes[1..]].concat();
            let outcome = judged(&replaced(name, &flipped), signature, &known());
            match name {
                // The card is who publishes the item's.
                "card.toml" => assert!(outcome.unwrap().is_some()),
                _ => refused(outcome, &format!("{name} is not the file that model.sig lists")),
            }
        }
    }
    for name in ["planted.py", "README.md.bak", "tokenizer/planted.txt", "Tiny.gguf2"] {
        refused(judged(&replaced(name, b""), P256, &known()), &format!("does not list {name}"));
    }
    let fewer: Vec<_> = FILES.into_iter().filter(|(path, _)| *path != "README.md").collect();
    refused(judged(&fewer, P256, &known()), "lists \"README.md\", which is not in the item");
    // A name that was left out is no beginning of another.
    let ignoring = fixture!("ignoring.sig");
    refused(judged(&replaced("README.md2", b""), ignoring, &known()), "does not list README.md2");
    assert!(judged(&replaced("README.md", b"another"), ignoring, &known()).is_ok());
}

#[test]
fn digests_that_nobody_can_compare_are_named() {
    refused(of(fixture!("blake2b.sig"), &known()), "has digests of \"blake2b\"");
    refused(of(fixture!("shards.sig"), &known()), "method is \"shards\"");
}

fn edited(signature: &[u8], edit: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut bundle: Value = serde_json::from_slice(signature).unwrap();
    edit(&mut bundle);
    bundle.to_string().into_bytes()
}

/// Where a field's text stands in a signature file.
fn span(file: &[u8], field: &str) -> std::ops::Range<usize> {
    let text = std::str::from_utf8(file).unwrap();
    let start = text.find(&format!("\"{field}\":\"")).unwrap() + field.len() + 4;
    start..start + text[start..].find('"').unwrap()
}

#[test]
fn no_flipped_byte_leaves_a_known_signer() {
    let fine = of(P256, &known()).unwrap();
    let signed = [span(P256, "payload"), span(P256, "sig")];
    for index in 0..P256.len() {
        for bit in [0, 1, 5, 7] {
            let mut flipped = P256.to_vec();
            flipped[index] ^= 1 << bit;
            let outcome = of(&flipped, &known());
            if signed.iter().any(|span| span.contains(&index)) {
                let refusal = outcome.unwrap_err();
                let is_meant = matches!(
                    refusal,
                    ModelSignatureError::NotSigned(_) | ModelSignatureError::Unreadable { .. }
                );
                assert!(is_meant, "byte {index}: {refusal}");
            } else if let Ok(found) = outcome {
                // What is not signed: names that nothing reads, and the hint, without which the key
                // is found all the same.
                assert_eq!(found, fine, "byte {index}");
            }
        }
    }
}

#[test]
fn another_key_under_a_known_hint_is_refused() {
    let theirs = edited(fixture!("p384.sig"), |bundle| {
        let hint = digest::sha256(fixture!("p256.pub")).to_string();
        bundle["verificationMaterial"]["publicKey"]["hint"] = json!(hint);
    });
    let named = "names the known key ac42d7b4";
    refused(of(&theirs, &known()), named);
    // Where that key is not known it is as unknown as before, and still signs for nobody.
    let found = of(&theirs, &[key(fixture!("p521.pub"))]).unwrap().unwrap();
    assert!(matches!(found.signer, Signer::Unknown { .. }));
    let der = edited(&theirs, |bundle| {
        let der = pem_body(fixture!("p256.pub"));
        let hint = digest::sha256(&der).to_string();
        bundle["verificationMaterial"]["publicKey"]["hint"] = json!(hint);
    });
    refused(of(&der, &known()), named);
    let older = edited(&theirs, |bundle| {
        let raw = STANDARD.encode(fixture!("p256.pub"));
        bundle["verificationMaterial"]["publicKey"] = json!({"rawBytes": raw});
    });
    refused(of(&older, &known()), named);
    // One key's own curve is tried alone.
    let mine = Maker::new();
    let signature = mine.sign(&statement());
    assert!(of(&signature, &known()).is_ok_and(|found| {
        found.is_some_and(|found| matches!(found.signer, Signer::Unknown { .. }))
    }));
}

fn pem_body(pem: &[u8]) -> Vec<u8> {
    let lines = std::str::from_utf8(pem).unwrap().lines();
    let body: String = lines.filter(|line| !line.starts_with('-')).collect();
    STANDARD.decode(body).unwrap()
}

/// Somebody who signs what the tool would not.
struct Maker(EcdsaKeyPair);

impl Maker {
    fn new() -> Maker {
        Maker(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap())
    }

    fn key(&self) -> SignerKey {
        SignerKey::from_spki(self.0.public_key().as_der().unwrap().as_ref()).unwrap()
    }

    fn sign(&self, statement: &Value) -> Vec<u8> {
        self.sign_bytes(statement.to_string().as_bytes())
    }

    fn sign_bytes(&self, payload: &[u8]) -> Vec<u8> {
        let head = format!("DSSEv1 28 application/vnd.in-toto+json {} ", payload.len());
        let bytes = [head.as_bytes(), payload].concat();
        let signature = self.0.sign(&SystemRandom::new(), &bytes).unwrap();
        let hint = self.key().id().to_string();
        let bundle = json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {"publicKey": {"hint": hint}},
            "dsseEnvelope": {
                "payload": STANDARD.encode(payload), "payloadType": "application/vnd.in-toto+json",
                "signatures": [{"sig": STANDARD.encode(signature.as_ref())}],
            },
        });
        bundle.to_string().into_bytes()
    }
}

/// A sound statement over the model.
fn statement() -> Value {
    let listed = FILES.iter().filter(|(path, _)| *path != "card.toml");
    let resources: Vec<Value> = listed
        .map(|(path, bytes)| {
            json!({"name": path, "algorithm": "sha256", "digest": digest::sha256(bytes)})
        })
        .collect();
    let mut statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "tiny", "digest": {"sha256": ""}}],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {
            "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": false},
            "resources": resources,
        },
    });
    set_subject(&mut statement);
    statement
}

/// Computes the subject's digest over the resources as they are now.
fn set_subject(statement: &mut Value) {
    let resources = statement["predicate"]["resources"].as_array().unwrap();
    let digests: Vec<u8> = resources
        .iter()
        .filter_map(|one| Digest::try_from(one["digest"].as_str()?.to_owned()).ok())
        .flat_map(|digest| digest.0)
        .collect();
    statement["subject"][0]["digest"]["sha256"] = json!(digest::sha256(&digests));
}

#[test]
fn a_statement_that_a_known_signer_signed_is_still_judged() {
    let maker = Maker::new();
    let signers = [maker.key()];
    let verified = of(&maker.sign(&statement()), &signers).unwrap().unwrap();
    assert_eq!(verified.signer, Signer::Known { key_id: maker.key().id() });
    let check = |expected: &str, edit: &dyn Fn(&mut Value)| {
        let mut changed = statement();
        edit(&mut changed);
        refused(of(&maker.sign(&changed), &signers), expected);
    };
    check("statement's type", &|s| s["_type"] = json!("https://in-toto.io/Statement/v0.1"));
    check("\"https://model_signing/Digests/v0.1\"", &|s| {
        s["predicateType"] = json!("https://model_signing/Digests/v0.1");
    });
    check("missing field `predicate`", &|s| drop(s.as_object_mut().unwrap().remove("predicate")));
    check("method is \"tensors\"", &|s| {
        s["predicate"]["serialization"]["method"] = json!("tensors");
    });
    check("digests of \"md5\"", &|s| s["predicate"]["serialization"]["hash_type"] = json!("md5"));
    // No resource may say another algorithm than the whole.
    check("digests of \"blake3\"", &|s| {
        s["predicate"]["resources"][0]["algorithm"] = json!("blake3")
    });
    check("a digest: a digest is 64", &|s| s["predicate"]["resources"][0]["digest"] = json!("00"));
    check("lists no files", &|s| s["predicate"]["resources"] = json!([]));
    check("contradicts itself", &|s| s["subject"] = json!([]));
    check("contradicts itself", &|s| {
        let subject = s["subject"][0].clone();
        s["subject"].as_array_mut().unwrap().push(subject);
    });
    check("contradicts itself", &|s| {
        s["subject"][0]["digest"]["sha256"] = json!("00".repeat(32));
    });
    check("contradicts itself", &|s| {
        s["predicate"]["resources"].as_array_mut().unwrap().reverse();
    });
    check("missing field `sha256`", &|s| s["subject"][0]["digest"] = json!({"sha512": ""}));
    check("lists \"README.md\" twice", &|s| {
        s["predicate"]["resources"][1] = s["predicate"]["resources"][0].clone();
        set_subject(s);
    });
}

#[test]
fn names_that_lead_out_or_leave_everything_out_are_refused() {
    let maker = Maker::new();
    let signers = [maker.key()];
    for name in [
        "/etc/passwd",
        "../tiny.gguf",
        ".",
        "tokenizer/../tiny.gguf",
        "",
        "./tiny.gguf",
        "tokenizer//vocab.txt",
        "tokenizer\\vocab.txt",
        ".git/config",
    ] {
        let mut changed = statement();
        changed["predicate"]["resources"][1]["name"] = json!(name);
        refused(of(&maker.sign(&changed), &signers), "lists a name that no item can have");
    }
    let mut changed = statement();
    changed["predicate"]["resources"][1]["name"] = json!("TINY.gguf");
    refused(of(&maker.sign(&changed), &signers), "lists \"TINY.gguf\", which is not in the item");
    let leaving_out = |paths: Value| {
        let mut changed = statement();
        // The first file and the last are listed no more.
        let resources = changed["predicate"]["resources"].as_array_mut().unwrap();
        resources.retain(|one| one["name"] == "tiny.gguf");
        changed["predicate"]["serialization"]["ignore_paths"] = paths;
        set_subject(&mut changed);
        of(&maker.sign(&changed), &signers)
    };
    for paths in [json!(["README.md", "tokenizer"]), json!(["tokenizer/", "README.md/", "other"])] {
        assert_eq!(leaving_out(paths).unwrap().unwrap().files_left_out, 2);
    }
    for paths in [json!(["README.md"]), json!(["README.md", "token"]), json!(["README.md", "*"])] {
        refused(leaving_out(paths), "does not list tokenizer/vocab.txt");
    }
    for path in ["", ".", "/", "./", "/README.md", "..", "a/../tokenizer", "tokenizer//"] {
        refused(leaving_out(json!(["README.md", "tokenizer", path])), "no path inside a model");
    }
    refused(leaving_out(json!(vec!["a"; 1025])), "too many paths");
    // Not the weights, whoever wants it.
    let mut changed = statement();
    changed["predicate"]["resources"].as_array_mut().unwrap().remove(1);
    changed["predicate"]["serialization"]["ignore_paths"] = json!(["tiny.gguf"]);
    set_subject(&mut changed);
    refused(of(&maker.sign(&changed), &signers), "leaves out tiny.gguf: a signature without");
}

#[test]
fn bundles_of_another_form_are_refused() {
    let check = |expected: &str, edit: &dyn Fn(&mut Value)| {
        refused(of(&edited(P256, edit), &known()), expected);
    };
    let material = "verificationMaterial";
    check("the media type is", &|b| b["mediaType"] = json!("application/json"));
    check("missing field `mediaType`", &|b| drop(b.as_object_mut().unwrap().remove("mediaType")));
    check("the payload's type is", &|b| b["dsseEnvelope"]["payloadType"] = json!("text/plain"));
    check("has 0 signatures", &|b| b["dsseEnvelope"]["signatures"] = json!([]));
    check("has 2 signatures", &|b| {
        let one = b["dsseEnvelope"]["signatures"][0].clone();
        b["dsseEnvelope"]["signatures"].as_array_mut().unwrap().push(one);
    });
    check("either a key or a certificate", &|b| b[material] = json!({}));
    check("either a key or a certificate", &|b| b[material]["certificate"] = json!({}));
    for hint in ["a b".to_owned(), "\u{1b}[2J".to_owned(), "a".repeat(201)] {
        check("no plain text", &|b| b[material]["publicKey"]["hint"] = json!(hint));
    }
    check("the payload:", &|b| b["dsseEnvelope"]["payload"] = json!("!"));
    check("the signature:", &|b| b["dsseEnvelope"]["signatures"][0]["sig"] = json!("!"));
    check("the key:", &|b| b[material]["publicKey"] = json!({"rawBytes": "!"}));
    for file in
        [b"".as_slice(), b"-----BEGIN PGP SIGNATURE-----", b"[]", b"{}", &[0xff; 9], &[b'['; 9999]]
    {
        refused(of(file, &known()), "no signature of OpenSSF Model Signing: the file");
    }
    // Nothing is said twice.
    let text = String::from_utf8(P256.to_vec()).unwrap();
    let twice = text.replacen("\"payloadType\"", "\"payload\":\"\",\"payloadType\"", 1);
    refused(of(twice.as_bytes(), &known()), "duplicate field `payload`");
    // What is cited is short and cannot do anything to a terminal.
    let long = edited(P256, |b| b["mediaType"] = json!("\u{1b}".repeat(1 << 20)));
    let error = of(&long, &known()).unwrap_err().to_string();
    assert!(error.len() < 2000 && !error.contains('\u{1b}'), "{}", error.len());
}

#[test]
fn other_payloads_that_a_known_signer_signed_are_refused() {
    let maker = Maker::new();
    for payload in [b"".as_slice(), b"[]", b"null", &[b'{'; 200], b"{\"_type\": 1}"] {
        let outcome = of(&maker.sign_bytes(payload), &[maker.key()]);
        refused(outcome, "no signature of OpenSSF Model Signing: the payload");
    }
}

#[test]
fn an_outcome_is_written_one_way() {
    let all = [
        (json!({"signer": {"known": {"key_id": "00".repeat(32)}}, "files_left_out": 2}), 2),
        (json!({"signer": {"unknown": {"hint": "a"}}, "files_left_out": 0}), 0),
        (json!({"signer": {"unknown": {"hint": null}}, "files_left_out": 0}), 0),
        (json!({"signer": "not_checked", "files_left_out": 1}), 1),
    ];
    for (text, files_left_out) in all {
        let read: ModelSignature = serde_json::from_value(text.clone()).unwrap();
        assert_eq!(read.files_left_out, files_left_out);
        assert_eq!(serde_json::to_value(read).unwrap(), text);
    }
}
