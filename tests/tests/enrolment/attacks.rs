//! What an attacker may try against the way by AWS. Nothing is believed, each with its reason.

use picket_tests::aws::identity::document;
use picket_tests::aws::sts::Holder;
use picket_wire::enrol::{Challenge, Proof, Sts};
use picket_wire::{PublicKey, Signer};

use super::house::{ACCOUNT, House, INSTANCE, REGION};

const PENDING: &str = "2026-01-02T03:04:05Z";

/// A signature of Signature Version 4 made by hand, for what an honest agent never signs.
struct Hand {
    id: &'static str,
    secret: &'static str,
    region: &'static str,
    host: &'static str,
    bound: [String; 3],
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Hand {
    /// What an honest agent signs.
    fn honest(key: &PublicKey, challenge: &Challenge) -> Self {
        let bound = picket_wire::enrol::sts::bound_values(key, &challenge.nonce, &challenge.key());
        Self {
            id: "ASIAHAND",
            secret: "secret",
            region: REGION,
            host: "sts.eu-central-1.amazonaws.com",
            bound,
        }
    }

    fn sign(&self) -> Sts {
        use ring::digest::{SHA256, digest};
        use ring::hmac::{HMAC_SHA256, Key, sign};
        let date = jiff::Timestamp::now()
            .strftime("%Y%m%dT%H%M%SZ")
            .to_string();
        let signed = "content-type;host;x-amz-date;x-amz-security-token;x-picket-key-sha256;\
                      x-picket-nonce;x-picket-server";
        let body = "Action=GetCallerIdentity&Version=2011-06-15";
        let [key, nonce, server] = &self.bound;
        let canonical = format!(
            "POST\n/\n\ncontent-type:application/x-www-form-urlencoded; charset=utf-8\n\
             host:{}\nx-amz-date:{date}\nx-amz-security-token:session\n\
             x-picket-key-sha256:{key}\nx-picket-nonce:{nonce}\nx-picket-server:{server}\n\n\
             {signed}\n{}",
            self.host,
            hex(digest(&SHA256, body.as_bytes()).as_ref())
        );
        let scope = format!("{}/{}/sts/aws4_request", &date[..8], self.region);
        let text = format!(
            "AWS4-HMAC-SHA256\n{date}\n{scope}\n{}",
            hex(digest(&SHA256, canonical.as_bytes()).as_ref())
        );
        let mut made = format!("AWS4{}", self.secret).into_bytes();
        for part in scope.split('/').chain([text.as_str()]) {
            made = sign(&Key::new(HMAC_SHA256, &made), part.as_bytes())
                .as_ref()
                .to_vec();
        }
        Sts {
            authorization: format!(
                "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={signed}, Signature={}",
                self.id,
                hex(&made)
            ),
            date,
            token: Some("session".to_owned()),
        }
    }
}

/// A house whose STS knows a session of an instance, one of another instance, and a user.
async fn house() -> House {
    let mut house = House::new().await;
    house.configure("127.0.0.1:0", "", "");
    house.start().await;
    let know = |id: &str, account: &str, resource: &str| {
        let holder = Holder {
            secret: "secret".to_owned(),
            token: "session".to_owned(),
            account: account.to_owned(),
            arn: format!("arn:aws:{resource}"),
        };
        house.sts.know(id, holder);
    };
    let session =
        |account: &str, instance: &str| format!("sts::{account}:assumed-role/web/{instance}");
    know("ASIAHAND", ACCOUNT, &session(ACCOUNT, INSTANCE));
    know(
        "ASIAOTHER",
        ACCOUNT,
        &session(ACCOUNT, "i-0fedcba9876543210"),
    );
    know(
        "ASIAFOREIGN",
        "444455556666",
        &session("444455556666", INSTANCE),
    );
    know(
        "AKIAUSER",
        ACCOUNT,
        &format!("iam::{ACCOUNT}:user/{INSTANCE}"),
    );
    house
}

#[tokio::test]
async fn nothing_forged_is_believed() {
    let house = house().await;
    let (here, there) = (&house.regions[0], &house.regions[1]);
    let text = document(ACCOUNT, REGION, INSTANCE, PENDING);
    let good = here.sign(&text).unwrap();
    let signer = Signer::from_seed(&[21; 32]);
    let key = signer.public_key();
    let other_key = Signer::from_seed(&[22; 32]).public_key();

    // Documents.
    let at = good.windows(4).position(|four| four == b"i-01").unwrap();
    let mut changed = good.clone();
    changed[at + 2] = b'7';
    let elsewhere = document("444455556666", REGION, INSTANCE, PENDING);
    let young = document(ACCOUNT, REGION, INSTANCE, "2126-01-02T03:04:05Z");
    let other = document(ACCOUNT, REGION, "i-0fedcba9876543210", PENDING);
    let odd = document(ACCOUNT, "evil.example/", INSTANCE, PENDING);
    for (identity, word) in [
        (here.sign(&elsewhere).unwrap(), "account"),
        (changed, "identity_signature"),
        (there.sign(&text).unwrap(), "identity_region"),
        (
            here.sign_other(&text, &other).unwrap(),
            "identity_signature",
        ),
        (
            [good.as_slice(), other.as_bytes()].concat(),
            "identity_malformed",
        ),
        (here.sign(&young).unwrap(), "identity_time"),
        (here.sign(&odd).unwrap(), "identity_document"),
        (text.clone().into_bytes(), "identity_malformed"),
        (Vec::new(), "identity_malformed"),
    ] {
        let challenge = house.challenge().await;
        let sts = Some(Hand::honest(&key, &challenge).sign());
        let answer = house
            .ask(&signer, &challenge, Proof::Ec2 { identity, sts })
            .await;
        assert_eq!(answer.err().as_deref(), Some(word));
    }
    assert_eq!(
        house.sts.asked(),
        0,
        "STS was asked about an identity that does not hold"
    );

    // What the role signed.
    type Bend = Box<dyn Fn(&mut Hand)>;
    let challenge_of_another = house.challenge().await;
    let stolen_nonce = picket_wire::Digest(challenge_of_another.nonce).to_string();
    let bends: [(&str, Bend); 8] = [
        ("sts_refused", Box::new(|hand| hand.secret = "guessed")),
        ("sts_refused", Box::new(|hand| hand.id = "ASIANOBODY")),
        (
            "sts_refused",
            Box::new(move |hand| {
                hand.bound[0] = picket_wire::Digest::of(&other_key.0).to_string();
            }),
        ),
        (
            "sts_refused",
            Box::new(move |hand| hand.bound[1].clone_from(&stolen_nonce)),
        ),
        (
            "sts_refused",
            Box::new(|hand| hand.bound[2] = "0".repeat(64)),
        ),
        (
            "sts_refused",
            Box::new(|hand| hand.host = "sts.evil.example"),
        ),
        ("sts_caller", Box::new(|hand| hand.id = "ASIAOTHER")),
        ("sts_caller", Box::new(|hand| hand.id = "AKIAUSER")),
    ];
    for (word, bend) in bends {
        let challenge = house.challenge().await;
        let mut hand = Hand::honest(&key, &challenge);
        bend(&mut hand);
        let (identity, sts) = (good.clone(), Some(hand.sign()));
        let answer = house
            .ask(&signer, &challenge, Proof::Ec2 { identity, sts })
            .await;
        assert_eq!(answer.err().as_deref(), Some(word));
    }
    let asked = house.sts.asked();
    type Twist = fn(&mut Sts);
    let twists: [(&str, Twist); 6] = [
        ("sts_scope", |sts| {
            sts.authorization = sts.authorization.replace(REGION, "us-west-2");
        }),
        ("sts_scope", |sts| {
            sts.authorization = sts.authorization.replace("/sts/", "/iam/");
        }),
        ("sts_headers", |sts| {
            sts.authorization = sts.authorization.replace(";x-picket-nonce", "");
        }),
        ("sts_headers", |sts| sts.token = None),
        ("sts_malformed", |sts| {
            sts.authorization = "Bearer x".to_owned();
        }),
        ("sts_malformed", |sts| {
            sts.date = "now\r\nhost: evil".to_owned();
        }),
    ];
    for (word, twist) in twists {
        let challenge = house.challenge().await;
        let mut sts = Hand::honest(&key, &challenge).sign();
        twist(&mut sts);
        let (identity, sts) = (good.clone(), Some(sts));
        let answer = house
            .ask(&signer, &challenge, Proof::Ec2 { identity, sts })
            .await;
        assert_eq!(answer.err().as_deref(), Some(word));
    }
    assert_eq!(
        house.sts.asked(),
        asked,
        "STS was asked in a form that is not ours"
    );

    // The very same with nothing bent is believed, once.
    assert!(house.lines(&["agents", "list"]).is_empty());
    let challenge = house.challenge().await;
    let sts = Some(Hand::honest(&key, &challenge).sign());
    let proof = Proof::Ec2 {
        identity: good,
        sts,
    };
    assert!(house.ask(&signer, &challenge, proof.clone()).await.is_ok());
    let again = house.ask(&signer, &challenge, proof.clone()).await;
    assert_eq!(again.err().as_deref(), Some("nonce_used"));
    // Stolen whole, by somebody with a key of his own.
    let thief = Signer::from_seed(&[23; 32]);
    let challenge = house.challenge().await;
    let stolen = house.ask(&thief, &challenge, proof).await;
    assert_eq!(stolen.err().as_deref(), Some("sts_refused"));
}
