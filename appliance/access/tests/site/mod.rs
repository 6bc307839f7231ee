//! A site with operators, for tests: the real store in a folder, people with real keys.

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]
#![allow(dead_code, reason = "each test program uses a part")]

use access::{
    AccessError, Decision, DualControl, EnrollBody, KeyKind, Nonce, Operators, PairRequest,
    Presented, PublicKey, Statement, TrustedTime, Unverified, Verb, body_sha256,
};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};

pub const SITE: &str = "site-of-the-test";
pub const NOW_S: u64 = 1_800_000_000;
pub const HOUR_S: u64 = 3600;

pub enum Pair {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
}

/// One with a key, at the workstation.
pub struct Person {
    pub name: &'static str,
    pub pair: Pair,
}

impl Person {
    pub fn new(name: &'static str) -> Person {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
        Person { name, pair: Pair::Ed25519(pair) }
    }

    pub fn with_p256(name: &'static str) -> Person {
        let (kind, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let document = EcdsaKeyPair::generate_pkcs8(kind, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(kind, document.as_ref(), &random).unwrap();
        Person { name, pair: Pair::P256(pair) }
    }

    pub fn key(&self) -> PublicKey {
        match &self.pair {
            Pair::Ed25519(pair) => {
                PublicKey::from_point(KeyKind::Ed25519, pair.public_key().as_ref()).unwrap()
            }
            Pair::P256(pair) => {
                PublicKey::from_point(KeyKind::P256, pair.public_key().as_ref()).unwrap()
            }
        }
    }

    pub fn statement(&self, verb: Verb, body: &[u8]) -> Statement {
        Statement {
            verb,
            site: SITE.to_owned(),
            nonce: Nonce::random().unwrap(),
            end_s: NOW_S + HOUR_S,
            body_sha256: body_sha256(body),
            operator: self.name.to_owned(),
            key_id: self.key().id(),
        }
    }

    pub fn seal(&self, statement: Statement) -> Unverified {
        let bytes = statement.signed_bytes();
        let signature = match &self.pair {
            Pair::Ed25519(pair) => pair.sign(&bytes).as_ref().to_vec(),
            Pair::P256(pair) => pair.sign(&SystemRandom::new(), &bytes).unwrap().as_ref().to_vec(),
        };
        statement.sealed(signature.try_into().unwrap())
    }

    pub fn request(&self, verb: Verb, body: &[u8]) -> Unverified {
        self.seal(self.statement(verb, body))
    }
}

/// A box: anna and boris are paired, carol was enrolled by them.
pub struct Site {
    pub folder: tempfile::TempDir,
    pub operators: Operators,
    pub time: TrustedTime,
    pub policy: DualControl,
    pub anna: Person,
    pub boris: Person,
    pub carol: Person,
}

impl Site {
    /// Nobody is enrolled.
    pub fn bare() -> Site {
        let folder = tempfile::tempdir().unwrap();
        let operators = Operators::open(&folder.path().join("operators.db")).unwrap();
        Site {
            folder,
            operators,
            time: TrustedTime::new(NOW_S - HOUR_S, NOW_S),
            policy: DualControl::default(),
            anna: Person::new("anna"),
            boris: Person::with_p256("boris"),
            carol: Person::new("carol"),
        }
    }

    pub fn new() -> Site {
        let site = Site::bare();
        for person in [&site.anna, &site.boris] {
            let code = site.operators.pairing_codes().unwrap().remove(0);
            let request = pair_request(person, &code);
            site.operators.pair(&request, SITE, site.time).unwrap();
        }
        site.enroll(&site.carol).unwrap();
        site
    }

    /// Anna and boris agree to enrol somebody.
    pub fn enroll(&self, person: &Person) -> Result<access::Operator, AccessError> {
        let body = enroll_body(person.name, &person.key());
        self.ask(&self.anna, Verb::Enroll, &body)?;
        match self.ask(&self.boris, Verb::Enroll, &body)? {
            Decision::Authorised(act) => self.operators.enroll(&act, self.time),
            Decision::Proposed(proposal) => panic!("two have signed {proposal:?}"),
        }
    }

    /// A person signs and presents.
    pub fn ask(&self, who: &Person, verb: Verb, body: &[u8]) -> Result<Decision, AccessError> {
        self.present(&who.request(verb, body), verb, body)
    }

    pub fn present(
        &self,
        request: &Unverified,
        verb: Verb,
        body: &[u8],
    ) -> Result<Decision, AccessError> {
        let presented = Presented { verb, body, site: SITE, policy: &self.policy };
        self.operators.authorise(request, &presented, self.time)
    }

    /// The box is switched off and on.
    pub fn restart(&mut self) {
        self.operators = Operators::open(&self.folder.path().join("operators.db")).unwrap();
    }

    /// Time goes on, the floor behind it.
    pub fn advance(&mut self, seconds: u64) {
        self.time =
            TrustedTime::new(self.time.floor_s() + seconds, self.time.estimate_s() + seconds);
    }
}

pub fn pair_request(person: &Person, code: &access::PairingCode) -> PairRequest {
    let (name, key) = (person.name.to_owned(), person.key());
    let proof = code.proof(&name, &key, SITE);
    PairRequest { name, key, proof }
}

pub fn enroll_body(name: &str, key: &PublicKey) -> Vec<u8> {
    let body = EnrollBody { name: name.to_owned(), public_key: key.to_base64() };
    serde_json::to_vec(&body).unwrap()
}
