//! Catalogue of error codes. A code is in the messages that `kubectl` prints, in Events, responses of the issuance API,
//! termination messages and logs. `docs/src/reference/errors.md` explains each code.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Channel on which users see a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Channel {
    /// Rejection of an object by the webhook: `kubectl` prints it, and controllers of Kubernetes report it in Events.
    Rejection,
    /// Warning of the webhook, which `kubectl` prints for an object that the webhook admits.
    Warning,
    /// Reason of an Event.
    Event,
    /// Response of the issuance API, or of the webhook to a request that is not a valid review.
    Response,
    /// Termination message of a container, which `kubectl describe pod` shows.
    Termination,
    /// Field `code` of a log line.
    Log,
}

/// Role of the person who acts on a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Actor {
    /// Developer of the workload, who writes the annotations.
    Developer,
    /// Platform engineer, who runs Certmint and the cluster.
    PlatformEngineer,
}

macro_rules! catalogue {
    ($(
        $(#[doc = $meaning:literal])+
        $code:ident {
            channels: [$($channel:ident),+], transient: $transient:literal,
            actors: [$($actor:ident),*], remedy: $remedy:literal
        }
    )+) => {
        /// Stable name of a kind of failure.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum ErrorCode {
            $($(#[doc = $meaning])+ $code,)+
        }

        impl ErrorCode {
            /// Every code, in the order of the errors page.
            pub const ALL: &[Self] = &[$(Self::$code),+];

            /// Returns the name of the code, the same on every channel.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$code => stringify!($code),)+ }
            }

            /// Returns the meaning of the code, in one or two sentences.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$code => concat!($($meaning),+).trim_ascii(),)+ }
            }

            /// Returns the channels on which users see the code.
            #[must_use]
            pub fn channels(self) -> &'static [Channel] {
                match self { $(Self::$code => &[$(Channel::$channel),+],)+ }
            }

            /// Returns true if a later attempt may succeed although the user changed nothing.
            #[must_use]
            pub fn is_transient(self) -> bool {
                match self { $(Self::$code => $transient,)+ }
            }

            /// Returns the roles that act on the code. The list is empty if no action is needed.
            #[must_use]
            pub fn actors(self) -> &'static [Actor] {
                match self { $(Self::$code => &[$(Actor::$actor),*],)+ }
            }

            /// Returns the action that the user takes.
            #[must_use]
            pub fn remedy(self) -> &'static str {
                match self { $(Self::$code => $remedy,)+ }
            }
        }
    };
}

catalogue! {
    /// An annotation has a value that is not allowed.
    InvalidAnnotation {
        channels: [Rejection, Warning, Event, Response, Termination, Log], transient: false,
        actors: [Developer],
        remedy: "Write one of the values that the message lists, and annotate again."
    }
    /// The key of an annotation under `certmint.dev/` is not a key that Certmint knows.
    UnknownAnnotation {
        channels: [Rejection, Event, Response, Termination, Log], transient: false,
        actors: [Developer],
        remedy: "Correct the key as the message suggests, and remove the wrong one."
    }
    /// An object has a label where Certmint reads an annotation. The label has no effect.
    WrittenAsLabel {
        channels: [Rejection, Warning], transient: false,
        actors: [Developer],
        remedy: "Remove the label, and write the same key and value as an annotation."
    }
    /// The value of `certmint.dev/mode` is not supported.
    UnsupportedMode {
        channels: [Rejection, Event, Response, Termination, Log], transient: false,
        actors: [Developer],
        remedy: "Remove the annotation, or write `secret`."
    }
    /// The object cannot be changed any more, so the annotation would have no effect.
    TooLate {
        channels: [Rejection], transient: false,
        actors: [Developer],
        remedy: "Annotate the workload that creates the pods, or delete the object and create it with the annotation."
    }
    /// Certmint cannot inject the pod: one of its containers, volumes or mounts conflicts with what Certmint adds.
    PodConflict {
        channels: [Rejection, Warning], transient: false,
        actors: [Developer],
        remedy: "Rename the container or volume that the message names, or choose another `certmint.dev/mount-path`."
    }
    /// The policy does not allow what the workload or pod requests.
    NotAllowed {
        channels: [Rejection, Warning, Event, Response, Termination, Log], transient: false,
        actors: [Developer, PlatformEngineer],
        remedy: "Request what the message allows, or ask the platform engineers who run Certmint to change the chart's values under `policy`."
    }
    /// The API server accepts the object, but an annotation has no effect, or probably not the intended one.
    SuspiciousSetting {
        channels: [Warning], transient: false,
        actors: [Developer],
        remedy: "Follow the message, or leave the object as it is if that is your intention."
    }
    /// The API server accepts the object, and Certmint does nothing with it.
    Ignored {
        channels: [Warning], transient: false,
        actors: [],
        remedy: "No action is needed, unless the message mentions the webhook's rules."
    }
    /// A Secret with the name that Certmint needs exists, and Certmint did not create it. Certmint does not change it.
    ForeignSecret {
        channels: [Event, Response, Termination, Log], transient: false,
        actors: [Developer],
        remedy: "Choose another name with `certmint.dev/secret-name`, or delete the Secret if nothing needs it."
    }
    /// Another workload already uses the Secret that this workload requests.
    SecretClaimed {
        channels: [Event, Response, Termination, Log], transient: false,
        actors: [Developer],
        remedy: "Give one of the two workloads another `certmint.dev/secret-name`."
    }
    /// A user or program other than Certmint changed the Secret, so it does not verify any more. The controller rewrites it.
    SecretDamaged {
        channels: [Event, Log], transient: true,
        actors: [],
        remedy: "No action is needed: the controller reissues the certificate at once. If it happens again, find out what writes to the Secret."
    }
    /// A Secret, or an object on which its certificate depends, changes again and again. The controller writes the Secret less often.
    WrittenTooOften {
        channels: [Event, Log], transient: true,
        actors: [Developer, PlatformEngineer],
        remedy: "Find out what writes to the Secret, with `--show-managed-fields`, or which Service is created and deleted again and again. After the changes have ended, the controller writes the Secret once more."
    }
    /// An object, or all objects of a namespace together, need more of the controller's memory than Certmint allows. The controller ignores the excess.
    TooLarge {
        channels: [Event, Log], transient: false,
        actors: [Developer],
        remedy: "Make the object smaller, or remove objects that are not needed from its namespace. Other namespaces are not affected."
    }
    /// A certificate has no space for all names of its workload, or the controller does not read all of the workload's labels. The certificate has the most important names, and is renewed.
    NamesLeftOut {
        channels: [Event, Log], transient: false,
        actors: [Developer],
        remedy: "Split the workload, or change the selectors of some Services so that they do not select its pods. The page on names describes the order in which names are left out."
    }
    /// The controller has no CA to issue with: the CA is missing, or its root is damaged, replaced or expired. Certificates that are already issued stay valid.
    CaUnavailable {
        channels: [Event, Response, Termination, Log], transient: true,
        actors: [PlatformEngineer],
        remedy: "Read the Events of the controller's Deployment: `kubectl describe deployment` in Certmint's namespace. Restore the CA's Secret from its backup."
    }
    /// The root CA expires within months, and every certificate with it; or the next issuing CA below an offline root was not imported yet.
    CaEndsSoon {
        channels: [Event, Log], transient: false,
        actors: [PlatformEngineer],
        remedy: "For a root: choose a day before the root expires, and accept a new root as the book's page on the CA describes. For an issuing CA below an offline root: import the next one."
    }
    /// The root is offline, and the controller waits for the certificate of its issuing CA. It issues nothing.
    CaRequestPending {
        channels: [Event, Log], transient: true,
        actors: [PlatformEngineer],
        remedy: "Let the operator of the root sign the request in the ConfigMap `certmint-ca-request`, and import the certificate, as the book's page on your company's CA describes."
    }
    /// The certificates that an operator imported are not acceptable. The controller uses no part of them.
    CaImportRejected {
        channels: [Event, Log], transient: false,
        actors: [PlatformEngineer],
        remedy: "Request the certificate as the message says, delete the ConfigMap `certmint-ca-import`, and create it with the new certificate."
    }
    /// A request of an operator to replace the issuing CA is malformed or cannot be carried out, so the issuing CA stays in use.
    RequestRefused {
        channels: [Event, Log], transient: false,
        actors: [PlatformEngineer],
        remedy: "Correct the ConfigMap `certmint-issuing-ca-request` as the message says."
    }
    /// The clock of a controller's node and the clock of the API server differ by minutes. Certificates would begin too late or end too soon. So this controller signs nothing, and lets another one lead. Certificates that are already issued stay valid.
    ClockDiffers {
        channels: [Event, Log], transient: true,
        actors: [PlatformEngineer],
        remedy: "Check the time service (NTP) of the node that the controller runs on, then that of the API server's machines."
    }
    /// The controller could not create a certificate, or the new certificate did not verify and was discarded.
    IssuanceFailed {
        channels: [Event, Log], transient: true,
        actors: [PlatformEngineer],
        remedy: "Follow the message. The controller retries."
    }
    /// The namespace has as many objects as its ResourceQuota allows, so the controller cannot create a Secret in it.
    QuotaExceeded {
        channels: [Event, Response, Termination, Log], transient: true,
        actors: [Developer, PlatformEngineer],
        remedy: "Raise the ResourceQuota that the message names, or delete objects that count towards it and are not needed. The controller retries."
    }
    /// The API server rejected a call of the controller, for instance because of another admission webhook or a policy of the cluster.
    CallRefused {
        channels: [Event, Response, Termination, Log], transient: true,
        actors: [PlatformEngineer],
        remedy: "Do what the API server's text in the message says. The controller retries."
    }
    /// The controller lacks a permission that the chart grants.
    MissingPermission {
        channels: [Event, Response, Termination, Log], transient: true,
        actors: [PlatformEngineer],
        remedy: "Compare the controller's ClusterRole and Roles with the chart's: `helm upgrade` restores them."
    }
    /// The workload has the annotation, but is not opted in: the API server could not call the webhook when the annotation was written.
    OptInMissed {
        channels: [Event, Log], transient: false,
        actors: [Developer],
        remedy: "Run the command in the message, now that the webhook answers."
    }
    /// The annotation was removed, but the workload is not opted out: the API server could not call the webhook at that time.
    OptOutMissed {
        channels: [Event, Log], transient: false,
        actors: [Developer],
        remedy: "Run the command in the message, now that the webhook answers."
    }
    /// An injected pod has a certificate of its own, because no workload that opted in has a certificate for it.
    StandalonePod {
        channels: [Event, Log], transient: true,
        actors: [Developer],
        remedy: "No action is needed if the pod is about to be replaced. Otherwise opt in its workload, or finish the rollout."
    }
    /// A pod that should be injected was created without the webhook, so it has no certificate.
    NotInjected {
        channels: [Event, Log], transient: false,
        actors: [Developer],
        remedy: "Delete the pod, so that its owner recreates it."
    }
    /// The pod's token is missing, expired, or not issued for Certmint.
    Unauthenticated {
        channels: [Response, Termination, Log], transient: false,
        actors: [PlatformEngineer],
        remedy: "No action is needed if it resolves on its own: the kubelet replaces tokens. Otherwise check that this installation injected the pod."
    }
    /// The pod or its workload did not opt in.
    NotOptedIn {
        channels: [Event, Response, Termination, Log], transient: false,
        actors: [Developer],
        remedy: "Annotate the workload with `certmint.dev/inject=true`."
    }
    /// The pod runs under another service account than its workload's pod template names.
    WrongServiceAccount {
        channels: [Event, Response, Termination, Log], transient: false,
        actors: [Developer],
        remedy: "Delete the pod, so that the workload recreates it with the service account of its template."
    }
    /// The pod is being deleted, or does not exist any more.
    PodGone {
        channels: [Response, Termination, Log], transient: false,
        actors: [],
        remedy: "No action is needed."
    }
    /// The controller has not issued the certificate yet.
    NotYetIssued {
        channels: [Response, Termination, Log], transient: true,
        actors: [],
        remedy: "Wait a moment. If it persists, run `kubectl describe` on the workload: its Events say why."
    }
    /// The controller, the webhook or the API server cannot answer at the moment.
    Unavailable {
        channels: [Event, Response, Termination, Log], transient: true,
        actors: [PlatformEngineer],
        remedy: "Wait a moment. If it persists, check the pods in Certmint's namespace."
    }
    /// The pod cannot reach the issuance API.
    Unreachable {
        channels: [Termination, Log], transient: true,
        actors: [Developer, PlatformEngineer],
        remedy: "Follow the message. It says whether the pod's DNS does not resolve the name, or the address does not answer."
    }
    /// The bundle (key, certificate and roots) that the pod received did not pass verification, so certmint-fetch did not use it.
    InvalidBundle {
        channels: [Termination, Log], transient: false,
        actors: [Developer],
        remedy: "If the message names the Secret, delete it: the controller reissues the certificate at once."
    }
    /// certmint-fetch could not write the certificate files.
    CannotPublish {
        channels: [Termination, Log], transient: false,
        actors: [Developer],
        remedy: "Read what the message says about the volume: usually it is full."
    }
    /// The new certificate is in place, but certmint-fetch could not notify the application.
    ReloadFailed {
        channels: [Termination, Log], transient: false,
        actors: [Developer],
        remedy: "Correct `certmint.dev/reload`, or the part of the application that receives the reload. certmint-fetch retries at least every minute."
    }
    /// The pod got no certificate within the deadline. It continues to wait.
    DeadlineExceeded {
        channels: [Event, Log], transient: true,
        actors: [Developer],
        remedy: "Look up the code of the last cause in the message. The certmint-fetch container retries on its own."
    }
    /// A program of Certmint was started with a wrong flag, file or environment variable.
    InvalidSettings {
        channels: [Termination, Log], transient: false,
        actors: [Developer, PlatformEngineer],
        remedy: "In an injected pod: delete the pod, so that it is injected again. In Certmint's own pods: compare the Deployment with the chart's."
    }
    /// The policy is not valid. A server uses the last valid policy, also when it starts. If there never was a valid policy, the server waits and is not ready.
    InvalidPolicy {
        channels: [Event, Log], transient: false,
        actors: [PlatformEngineer],
        remedy: "Correct the chart's values under `policy` as the message says, and upgrade the release."
    }
    /// A server of Certmint has no valid serving certificate.
    NoServingCertificate {
        channels: [Event, Log], transient: true,
        actors: [PlatformEngineer],
        remedy: "Read the controller's log: the leader issues the serving certificates from the CA."
    }
    /// Certmint's webhook configuration does not exist, so nothing is injected.
    WebhookMissing {
        channels: [Event, Log], transient: false,
        actors: [PlatformEngineer],
        remedy: "Run `helm upgrade`, which restores it."
    }
    /// The controller cannot read an object of the cluster, so it skips the object.
    UnreadableObject {
        channels: [Log], transient: false,
        actors: [Developer],
        remedy: "Correct the field that the message names."
    }
    /// The request is not an AdmissionReview of a kind that the webhook handles, or the object in it cannot be read.
    BadReview {
        channels: [Rejection, Response, Log], transient: false,
        actors: [PlatformEngineer],
        remedy: "Only an API server should call the webhook. If it does, compare the webhook configuration with the chart's."
    }
    /// The server does not answer this HTTP request, because of its path, method, content type or size.
    BadRequest {
        channels: [Response, Log], transient: false,
        actors: [PlatformEngineer],
        remedy: "Send the request as the message says."
    }
    /// The server has too many requests at one time.
    TooManyRequests {
        channels: [Response, Termination, Log], transient: true,
        actors: [],
        remedy: "Retry after the number of seconds in `Retry-After`."
    }
    /// A fault in Certmint itself.
    Internal {
        channels: [Response, Log], transient: false,
        actors: [PlatformEngineer],
        remedy: "Report a bug, with the message."
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
    fn a_code_serializes_as_its_name() {
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
