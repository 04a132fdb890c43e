//! The catalogue of error codes: stable words that stand in `kubectl`'s answers, Events, answers of the
//! issuance API, termination messages and logs. `docs/src/reference/errors.md` explains each.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Where a code is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// In what `kubectl` prints when the webhook refuses an object, and in the Events of who made it.
    Refusal,
    /// In a warning that `kubectl` prints although the object is taken.
    Warning,
    /// As the reason of an Event.
    Event,
    /// In an answer of the issuance API or of the webhook that is no review.
    Answer,
    /// In the termination message of the container `certmint`, as `kubectl describe pod` shows it.
    Termination,
    /// In a log line, as its `code`.
    Log,
}

macro_rules! catalogue {
    ($(
        $(#[doc = $meaning:literal])+
        $code:ident { seen: [$($place:ident),+], transient: $transient:literal, remedy: $remedy:literal }
    )+) => {
        /// A stable name for a kind of failure.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum ErrorCode {
            $($(#[doc = $meaning])+ $code,)+
        }

        impl ErrorCode {
            /// Every code, in the order of the catalogue.
            pub const ALL: &[Self] = &[$(Self::$code),+];

            /// The code's name, as it is written everywhere.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$code => stringify!($code),)+ }
            }

            /// What it means, in a sentence or two.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$code => concat!($($meaning),+).trim_ascii(),)+ }
            }

            /// Where it is seen.
            pub fn seen(self) -> &'static [Place] {
                match self { $(Self::$code => &[$(Place::$place),+],)+ }
            }

            /// Whether asking again later can succeed although whoever asks has changed nothing.
            pub fn is_transient(self) -> bool {
                match self { $(Self::$code => $transient,)+ }
            }

            /// What to do about it.
            pub fn remedy(self) -> &'static str {
                match self { $(Self::$code => $remedy,)+ }
            }
        }
    };
}

catalogue! {
    /// An annotation has a value that is not allowed.
    InvalidAnnotation {
        seen: [Refusal, Warning, Event, Answer, Termination, Log], transient: false,
        remedy: "Write one of the values that the message lists, and annotate again."
    }
    /// There is no annotation of that name under `certmint.dev/`.
    UnknownAnnotation {
        seen: [Refusal, Event, Answer, Termination, Log], transient: false,
        remedy: "Correct the key as the message suggests, and remove the wrong one."
    }
    /// A label was written where an annotation belongs. Labels of that name have no effect.
    WrittenAsLabel {
        seen: [Refusal, Warning], transient: false,
        remedy: "Remove the label, and write the same key and value as an annotation."
    }
    /// That `certmint.dev/mode` is not supported.
    UnsupportedMode {
        seen: [Refusal, Event, Answer, Termination, Log], transient: false,
        remedy: "Remove the annotation, or write `secret`."
    }
    /// The object cannot change any more, so annotating it has no effect.
    TooLate {
        seen: [Refusal], transient: false,
        remedy: "Annotate the workload that makes the pods, or delete the object and create it with the annotation."
    }
    /// The pod cannot be injected as it is: a container, volume or mount of its own is in the way.
    PodConflict {
        seen: [Refusal, Warning], transient: false,
        remedy: "Rename what the message names, or choose another `certmint.dev/mount-path`."
    }
    /// The policy does not allow what was asked for.
    NotAllowed {
        seen: [Refusal, Warning, Event, Answer, Termination, Log], transient: false,
        remedy: "Ask for what the message allows, or ask whoever runs Certmint to change the chart's values under `policy`."
    }
    /// The object is taken, but an annotation has no effect, or probably not the one that was meant.
    Doubtful {
        seen: [Warning], transient: false,
        remedy: "Follow the message, or leave it as it is if it is meant."
    }
    /// The object is taken, and Certmint does nothing with it.
    LeftAlone {
        seen: [Warning], transient: false,
        remedy: "Nothing, or what the message says about the webhook's rules."
    }
    /// A Secret of that name exists that Certmint did not create. It stays as it is.
    ForeignSecret {
        seen: [Event, Answer, Termination, Log], transient: false,
        remedy: "Choose another name with `certmint.dev/secret-name`, or delete the Secret if nothing needs it."
    }
    /// Another workload has that Secret.
    SecretClaimed {
        seen: [Event, Answer, Termination, Log], transient: false,
        remedy: "Give one of the two workloads another `certmint.dev/secret-name`."
    }
    /// Somebody else changed the Secret, so that it does not verify any more. It is written anew.
    SecretDamaged {
        seen: [Event, Log], transient: true,
        remedy: "Nothing: the Secret is issued again at once. If it comes back, find out who writes to it."
    }
    /// Something changes a Secret, or what its certificate depends on, again and again. It is written less often.
    WrittenTooOften {
        seen: [Event, Log], transient: true,
        remedy: "Find out who writes to the Secret, with `--show-managed-fields`, or which Service comes and goes. It is written once more when that ends."
    }
    /// An object, or all objects of a namespace, are more than Certmint keeps. What exceeds it is left out.
    TooLarge {
        seen: [Event, Log], transient: false,
        remedy: "Make the object smaller, or remove from its namespace what nobody needs. Other namespaces are not affected."
    }
    /// A certificate has no room for all names of its workload, or not all of the workload's labels are read. It has the
    /// most important ones, and is renewed.
    NamesLeftOut {
        seen: [Event, Log], transient: false,
        remedy: "Split the workload, or take it out of some Services. The page on names says in which order names are left out."
    }
    /// There is no CA to issue with: it is missing, or its root is damaged, swapped or expired. What is issued stays valid.
    CaUnavailable {
        seen: [Event, Answer, Termination, Log], transient: true,
        remedy: "Read the Events of the controller's Deployment: `kubectl describe deployment` in Certmint's namespace. Restore the CA's Secret from its backup."
    }
    /// The root ends within months, and with it every certificate.
    CaEndsSoon {
        seen: [Event, Log], transient: false,
        remedy: "Choose a day before that end, and accept a new root as the book's page on the CA says."
    }
    /// The clock of a controller's node and the API server's differ by minutes. Certificates would begin too late or end too soon, so that controller signs nothing, and leaves the lead to another. What is issued stays valid.
    ClockDiffers {
        seen: [Event, Log], transient: true,
        remedy: "Look at the time service (NTP) of the node that the controller runs on, then of the API server's machines."
    }
    /// A certificate could not be made, or what was made did not verify and was thrown away.
    IssuanceFailed {
        seen: [Event, Log], transient: true,
        remedy: "Follow the message. It is tried again by itself."
    }
    /// The namespace has as many objects as its ResourceQuota allows, so that no Secret can be made in it.
    QuotaExceeded {
        seen: [Event, Answer, Termination, Log], transient: true,
        remedy: "Raise the ResourceQuota that the message names, or delete what it counts and nobody needs. It is tried again by itself."
    }
    /// The API server refused a call of the controller, for instance for another admission webhook or a policy of the cluster.
    CallRefused {
        seen: [Event, Answer, Termination, Log], transient: true,
        remedy: "Do what the API server's sentence in the message says. It is tried again by itself."
    }
    /// The controller lacks a permission that the chart gives it.
    MissingPermission {
        seen: [Event, Answer, Termination, Log], transient: true,
        remedy: "Compare the controller's ClusterRole and Roles with the chart's: `helm upgrade` restores them."
    }
    /// The workload has the annotation, but was not opted in: the webhook could not be asked at that time.
    OptInMissed {
        seen: [Event, Log], transient: false,
        remedy: "Run the command in the message, now that the webhook answers."
    }
    /// The workload lost the annotation, but was not opted out: the webhook could not be asked at that time.
    OptOutMissed {
        seen: [Event, Log], transient: false,
        remedy: "Run the command in the message, now that the webhook answers."
    }
    /// An injected pod has a certificate of its own, because no workload that opted in has one for it.
    ServedAlone {
        seen: [Event, Log], transient: true,
        remedy: "Nothing, if the pod is going to be replaced. Otherwise opt its workload in, or finish its rollout."
    }
    /// A pod that should be injected was created without the webhook, so it has no certificate.
    NotInjected {
        seen: [Event, Log], transient: false,
        remedy: "Delete the pod, so that it is made anew."
    }
    /// The pod's token is missing, expired, or not one for Certmint.
    Unauthenticated {
        seen: [Answer, Termination, Log], transient: false,
        remedy: "Nothing, if it passes: kubelet replaces tokens. Otherwise check that the pod was injected by this installation."
    }
    /// The pod, or its workload, did not opt in.
    NotOptedIn {
        seen: [Event, Answer, Termination, Log], transient: false,
        remedy: "Annotate the workload with `certmint.dev/inject=true`."
    }
    /// The pod runs under another service account than its workload's template names.
    WrongServiceAccount {
        seen: [Event, Answer, Termination, Log], transient: false,
        remedy: "Delete the pod, so that the workload makes it anew with the account of its template."
    }
    /// The pod is being deleted, or is gone.
    PodGone {
        seen: [Answer, Termination, Log], transient: false,
        remedy: "Nothing."
    }
    /// The certificate is not there yet.
    NotYetIssued {
        seen: [Answer, Termination, Log], transient: true,
        remedy: "Wait a moment. If it stays, `kubectl describe` the workload: its Events say why."
    }
    /// The controller, the webhook or the API server behind it cannot answer at the moment.
    Unavailable {
        seen: [Event, Answer, Termination, Log], transient: true,
        remedy: "Wait a moment. If it stays, look at the pods in Certmint's namespace."
    }
    /// The pod cannot reach the issuance API.
    Unreachable {
        seen: [Termination, Log], transient: true,
        remedy: "Follow the message: it tells a name that the pod's DNS does not resolve from an address that does not answer."
    }
    /// What the pod was given did not pass verification, so it was not used.
    InvalidBundle {
        seen: [Termination, Log], transient: false,
        remedy: "If the message names the Secret, delete it: it is issued again at once."
    }
    /// The files could not be written.
    CannotPublish {
        seen: [Termination, Log], transient: false,
        remedy: "Look for what the message says about the volume: usually it is full."
    }
    /// The new certificate is in place, but the app could not be told.
    ReloadFailed {
        seen: [Termination, Log], transient: false,
        remedy: "Correct `certmint.dev/reload`, or what answers there in the app. It is tried again at least each minute."
    }
    /// There was no certificate within the deadline. The pod goes on waiting.
    DeadlineExceeded {
        seen: [Event, Log], transient: true,
        remedy: "See the code of the last cause, which stands in the message. The container `certmint` tries again by itself."
    }
    /// What a program of Certmint was started with is wrong: a flag, a file or the container's environment.
    InvalidSettings {
        seen: [Termination, Log], transient: false,
        remedy: "In a pod: delete it, so that it is injected anew. In Certmint's own: compare the Deployment with the chart's."
    }
    /// The policy cannot be used. A server goes on with the last valid one, and begins with it when it starts. Where there never was a valid one it waits, and is not ready.
    InvalidPolicy {
        seen: [Event, Log], transient: false,
        remedy: "Correct the chart's values under `policy` as the message says, and upgrade."
    }
    /// One of Certmint's own servers has no certificate of its own that is good.
    NoServingCertificate {
        seen: [Event, Log], transient: true,
        remedy: "Look at the controller's log: its leader makes them from the CA."
    }
    /// There is no webhook configuration of ours, so nothing is injected.
    WebhookMissing {
        seen: [Event, Log], transient: false,
        remedy: "`helm upgrade` restores it."
    }
    /// An object of the cluster cannot be read, so it is passed over.
    UnreadableObject {
        seen: [Log], transient: false,
        remedy: "Correct the field that the message names."
    }
    /// What was asked is no AdmissionReview of a kind that the webhook handles, or not of an object that can be read.
    BadReview {
        seen: [Refusal, Answer, Log], transient: false,
        remedy: "Only an API server should ask. If it does, compare the webhook configuration with the chart's."
    }
    /// The HTTP request is not one that is answered here: path, method, type or size.
    BadRequest {
        seen: [Answer, Log], transient: false,
        remedy: "Ask as the message says."
    }
    /// Too many requests at one time.
    TooManyRequests {
        seen: [Answer, Termination, Log], transient: true,
        remedy: "Ask again after the seconds in `Retry-After`."
    }
    /// A fault in Certmint itself.
    Internal {
        seen: [Answer, Log], transient: false,
        remedy: "Report it, with the message."
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_travels_by_its_name() {
        for code in ErrorCode::ALL {
            let json = serde_json::to_value(code).unwrap();
            assert_eq!(json, code.as_str());
            assert_eq!(serde_json::from_value::<ErrorCode>(json).unwrap(), *code);
        }
    }

    #[test]
    fn meaning_and_remedy_are_sentences() {
        for code in ErrorCode::ALL {
            for text in [code.meaning(), code.remedy()] {
                assert!(text.ends_with('.') && !text.contains("  "), "{code}: {text}");
            }
        }
    }
}
