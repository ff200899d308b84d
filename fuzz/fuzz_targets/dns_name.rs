//! A name as text: what is taken reads back, whatever the case.
#![no_main]

use libfuzzer_sys::fuzz_target;
use picket_fuzz::told;
use picket_sense::decode::dns::Name;

fuzz_target!(|text: &str| {
    if let Ok(name) = Name::parse(text) {
        told::name(&name);
        let wire = [name.wire(), &[0]].concat();
        assert_eq!(Name::read(&wire, 0), Ok((name.clone(), wire.len())));
        assert_eq!(Name::parse(&text.to_ascii_uppercase()), Ok(name));
    }
});
