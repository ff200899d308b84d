//! S3: a page of a listing, and an object.

use reqwest::{Method, Response};

use super::encode::{decode, encode};
use super::limits::KEY_BYTES_MAX;
use super::{Aws, AwsError, Call, xml};

/// Where an object is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    pub(crate) region: String,
    pub(crate) bucket: String,
}

/// One object of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) key: String,
    pub(crate) bytes: u64,
}

/// One page of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Page {
    pub(crate) objects: Vec<Listed>,
    /// Prefixes behind which there is more, if it was asked by delimiter.
    pub(crate) folders: Vec<String>,
    /// What the next page is asked with.
    pub(crate) next: Option<String>,
}

/// Says whether a text can be the name of a bucket: it becomes part of a host's name.
pub(crate) fn is_bucket(text: &str) -> bool {
    let is_part = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.')
    };
    (3..=63).contains(&text.len())
        && text.bytes().all(is_part)
        && !text.starts_with(['-', '.'])
        && !text.ends_with(['-', '.'])
        && !text.contains("..")
}

impl Aws {
    fn of_bucket<'a>(&self, place: &'a Place, key: &str) -> Result<Call<'a>, AwsError> {
        let Place { region, bucket } = place;
        if !is_bucket(bucket) || !super::is_region(region) {
            return Err(AwsError::Request(format!(
                "no bucket can be {bucket:?} in {region:?}"
            )));
        }
        if key.len() > KEY_BYTES_MAX {
            return Err(AwsError::Request("key longer than a key may be".to_owned()));
        }
        let key = encode(key, true);
        // A name with dots fits no certificate of virtual hosts.
        let is_path = self.is_elsewhere() || bucket.contains('.');
        Ok(Call {
            service: "s3",
            region,
            method: Method::GET,
            host: (!is_path).then(|| bucket.clone()),
            path: if is_path {
                format!("/{bucket}/{key}")
            } else {
                format!("/{key}")
            },
            query: Vec::new(),
            headers: Vec::new(),
            body: Vec::new(),
        })
    }

    /// Asks for an object; its bytes are the body of the answer.
    ///
    /// # Errors
    /// Every [`AwsError`].
    pub(crate) async fn object(&self, place: &Place, key: &str) -> Result<Response, AwsError> {
        if key.is_empty() {
            return Err(AwsError::Request("a key is empty".to_owned()));
        }
        self.stream(self.of_bucket(place, key)?).await
    }

    /// Lists up to 1,000 keys behind `prefix`; by folder if there is a delimiter.
    ///
    /// # Errors
    /// Every [`AwsError`].
    pub(crate) async fn list(
        &self,
        place: &Place,
        prefix: &str,
        by_folder: bool,
        next: Option<&str>,
    ) -> Result<Page, AwsError> {
        let mut call = self.of_bucket(place, "")?;
        let mut add = |name: &str, value: &str| {
            call.query.push((name.to_owned(), encode(value, false)));
        };
        add("list-type", "2");
        add("encoding-type", "url");
        add("prefix", prefix);
        if by_folder {
            add("delimiter", "/");
        }
        if let Some(next) = next {
            add("continuation-token", next);
        }
        read(&self.text(call).await?)
    }
}

fn read(body: &[u8]) -> Result<Page, AwsError> {
    let mut page = Page::default();
    let (mut key, mut bytes, mut is_cut, mut is_list) = (None, 0, false, false);
    let mut bad = None;
    let mut text = |value: String| match decode(&value) {
        Some(text) => text,
        None => {
            bad = Some(value);
            String::new()
        }
    };
    xml::for_each(body, &mut |path, value| match path {
        "ListBucketResult/Contents/Key" => key = Some(text(value)),
        "ListBucketResult/Contents/Size" => bytes = value.parse().unwrap_or(0),
        "ListBucketResult/Contents" => {
            let key = key.take();
            page.objects.extend(key.map(|key| Listed { key, bytes }));
        }
        "ListBucketResult/CommonPrefixes/Prefix" => page.folders.push(text(value)),
        "ListBucketResult/NextContinuationToken" => page.next = Some(value),
        "ListBucketResult/IsTruncated" => is_cut = value == "true",
        "ListBucketResult" => is_list = true,
        _ => {}
    })?;
    if let Some(key) = bad {
        return Err(AwsError::Answer(format!(
            "the key {key:?} is not encoded as was asked"
        )));
    }
    if !is_list || (is_cut && page.next.is_none()) {
        return Err(AwsError::Answer(
            "no listing, or one without its rest".to_owned(),
        ));
    }
    if !is_cut {
        page.next = None;
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read() {
        let text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult>\
            <IsTruncated>true</IsTruncated><NextContinuationToken>a+b=</NextContinuationToken>\
            <Contents><Key>a%2Fb+c.gz</Key><Size>12</Size></Contents>\
            <Contents><Key>d</Key><Size>0</Size></Contents>\
            <CommonPrefixes><Prefix>x%2F</Prefix></CommonPrefixes></ListBucketResult>";
        let page = read(text.as_bytes()).unwrap();
        let listed = |key: &str, bytes| Listed {
            key: key.to_owned(),
            bytes,
        };
        assert_eq!(page.objects, [listed("a/b c.gz", 12), listed("d", 0)]);
        assert_eq!(
            (page.folders, page.next.as_deref()),
            (vec!["x/".to_owned()], Some("a+b="))
        );
        let whole = text.replace(">true<", ">false<");
        assert_eq!(read(whole.as_bytes()).unwrap().next, None);
        for bad in [
            text.replace("NextContinuationToken", "Other"),
            text.replace("%2F", "%f"),
            text.replace("ListBucketResult", "Other"),
        ] {
            assert!(read(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_of_buckets_cannot_leave_their_place() {
        for (name, is_good) in [
            ("trail-1.logs", true),
            ("abc", true),
            ("ab", false),
            ("evil.example/x", false),
            ("a@b", false),
            ("A-bucket", false),
            ("a..b", false),
            (".abc", false),
            ("abc-", false),
        ] {
            assert_eq!(is_bucket(name), is_good, "{name}");
        }
    }
}
