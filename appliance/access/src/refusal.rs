//! Why a request of an operator is refused, each reason with what to do next.
//!
//! A refusal is an answer, not a fault of the box: [`crate::AccessError`] has those.

use crate::proposals::ActId;
use crate::public_key::{KeyError, KeyId};
use crate::request::{BODY_BYTES_MAX, ENVELOPE_BYTES_MAX, NAME_LEN_MAX, SITE_LEN_MAX};
use crate::verbs::Verb;

/// Why a request is refused, and what to do next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// More bytes than a request may have.
    #[error(
        "the {what} is too large: an envelope has at most {ENVELOPE_BYTES_MAX} bytes, a body \
         {BODY_BYTES_MAX}; make the request smaller"
    )]
    TooLarge {
        /// Of which part.
        what: &'static str,
    },
    /// No request of the known form.
    #[error("this is no signed request ({reason}); make one with 'redoubt-operator'")]
    Malformed {
        /// Where it departs from the form.
        reason: String,
    },
    /// The form of a newer or older program.
    #[error("the request has version {version}, this box knows 1; use its 'redoubt-operator'")]
    Version {
        /// The request's.
        version: u64,
    },
    /// A name that cannot be an operator's.
    #[error(
        "an operator's name is 1 to {NAME_LEN_MAX} of a to z, 0 to 9, '.', '_' and '-', and begins \
         with a letter; choose such a name"
    )]
    Name,
    /// A site that cannot be one.
    #[error("a site is 1 to {SITE_LEN_MAX} printable ASCII characters; see the box's screen")]
    Site,
    /// A key that cannot be an operator's.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Signed for one verb, presented for another.
    #[error("this was signed to {signed}, not to {asked}; sign what you want to be done")]
    OtherVerb {
        /// What was signed.
        signed: Verb,
        /// What it was presented for.
        asked: Verb,
    },
    /// Signed for another site.
    #[error("this was signed for the site {signed}, and this is {here}; sign it for this site")]
    OtherSite {
        /// What was signed.
        signed: String,
        /// Where it was presented.
        here: String,
    },
    /// The body is not the one that was signed.
    #[error("the body is not the one that was signed; sign the body that you send")]
    OtherBody,
    /// Its end has passed.
    #[error(
        "this ended at {end_s} and it is {estimate_s} here (seconds since 1970); sign it again, \
         and where the box's time is wrong, have it corrected"
    )]
    Ended {
        /// The request's.
        end_s: u64,
        /// The box's.
        estimate_s: u64,
    },
    /// Its end is too far away.
    #[error(
        "this ends at {end_s}, more than 30 days after {estimate_s}, which it is here (seconds \
         since 1970); sign it with an earlier end"
    )]
    EndTooFar {
        /// The request's.
        end_s: u64,
        /// The box's.
        estimate_s: u64,
    },
    /// Nobody of this name is or was enrolled.
    #[error("no operator is called '{name}' here; have two operators enrol you")]
    UnknownOperator {
        /// The name.
        name: String,
    },
    /// The key is not this operator's.
    #[error("the key {key_id} is not {name}'s here; sign with your own enrolled key and name")]
    OtherKey {
        /// The name.
        name: String,
        /// The key.
        key_id: KeyId,
    },
    /// The key was revoked or replaced.
    #[error("{name}'s key was revoked; have two operators enrol a new one")]
    Revoked {
        /// Whose.
        name: String,
    },
    /// The signature does not hold.
    #[error("the signature is not {name}'s over this request; sign it again, unchanged")]
    Signature {
        /// Whose it should be.
        name: String,
    },
    /// It was presented before.
    #[error("this request was presented before, and counts once; sign a new one")]
    Replayed,
    /// No room for a further nonce.
    #[error(
        "{name} has as many requests on record as there may be; they are forgotten once the floor \
         of the trusted time passes their ends: bring the box a new time statement"
    )]
    TooManyRequests {
        /// Whose.
        name: String,
    },
    /// The first person signed again.
    #[error("{name} has proposed this already; another operator must sign it, with another key")]
    OwnProposal {
        /// Who.
        name: String,
    },
    /// Too much waits.
    #[error("too many proposals wait for a second person; complete or withdraw some")]
    TooManyProposals,
    /// The same is authorised already.
    #[error(
        "this is authorised already and not done yet ({act}); it is done at the next start, or \
         taken back (redoubt-operator proposals withdraw)"
    )]
    NotDoneYet {
        /// Which.
        act: ActId,
    },
    /// Too much is authorised and not done.
    #[error("too much is authorised and not done; restart the box, which finishes it")]
    TooManyUnfinished,
    /// An act that is over.
    #[error("this was done already; it counts once")]
    AlreadyDone,
    /// Nothing waits under this id.
    #[error("no proposal {id} waits; 'redoubt-operator proposals list' shows those that do")]
    NoProposal {
        /// Its id.
        id: String,
    },
    /// The key belongs or belonged to somebody.
    #[error("this key is or was {name}'s; make a new one with 'redoubt-operator key create'")]
    KeyTaken {
        /// Whose.
        name: String,
    },
    /// The name belongs to somebody.
    #[error("an operator '{name}' is enrolled already; the second person takes another name")]
    NameTaken {
        /// Whose.
        name: String,
    },
    /// The box was set up for others.
    #[error(
        "this box was set up for two people, and '{name}' with this key is not one of them; use \
         the name and key that its site.toml has, or set it up anew"
    )]
    NotAmongTheFirst {
        /// Who asked.
        name: String,
    },
    /// No room for a further operator.
    #[error("there are as many operators on record as there may be; revoke some, or set up anew")]
    TooManyOperators,
    /// With fewer than two nobody could agree on anything any more.
    #[error("at least two operators must stay; enrol another one first")]
    TooFewOperators,
    /// Both codes were used.
    #[error("pairing is over: two operators are enrolled; have them enrol you")]
    PairingOver,
    /// No code of this box proves it.
    #[error(
        "the proof does not hold ({tries_left} tries are left): check the code and the site on the \
         box's screen; a code serves one person, once"
    )]
    Proof {
        /// How many before the codes are renewed.
        tries_left: u32,
    },
    /// Too many wrong proofs: the box must show new codes.
    #[error("too many wrong codes: the codes were renewed; take one from the box's screen")]
    CodesRenewed,
}
