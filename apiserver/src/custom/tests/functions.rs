//! Tables of what Kubernetes' functions say in rules: for an object, whether a rule holds, or why it cannot be asked.

use super::{broken, ruled, structure, words};
use serde_json::{Value, json};

fn of(rule: &str) -> Value {
    let texts = json!({"type": "array", "items": {"type": "string"}});
    let properties = json!({
        "text": {"type": "string"}, "texts": texts, "none": texts,
        "numbers": {"type": "array", "items": {"type": "integer"}},
        "parts": {"type": "array", "items": {"type": "number"}},
        "small": {"type": "string"}, "large": {"type": "string"},
        "web": {"type": "string"}, "address": {"type": "string"}, "network": {"type": "string"},
    });
    ruled(json!({"type": "object", "properties": properties}), json!({"rule": rule, "message": "does not hold"}))
}

fn say(rule: &str) -> Option<String> {
    let object = json!({
        "text": "abc 123 de 45", "texts": ["a", "b", "b", "c"], "none": [],
        "numbers": [3, 1, 2], "parts": [0.5, 1.5, 1.5], "small": "50M", "large": "50Mi",
        "web": "https://user:pw@example.com:8080/a%20b/c?k1=a&k2=b&k2=c%20d#end",
        "address": "2001:db8::abcd", "network": "192.168.0.0/16",
    });
    let refused = words(structure::check(&super::schema(of(rule)), "s"));
    assert_eq!(refused, Vec::<String>::new(), "{rule}");
    let found = broken(of(rule), object, None);
    found.first().map(|words| words.trim_start_matches("a: Invalid value: \"object\": ").to_owned())
}

#[test]
fn lists_are_asked_for_their_order_their_sum_and_their_places() {
    all_hold(&[
        "self.texts.isSorted() && !self.numbers.isSorted() && self.none.isSorted() && [1].isSorted()",
        "['a', 'b', 'b', 'c'].isSorted() && ![2.0, 1.0].isSorted()",
        "self.numbers.sum() == 6 && self.parts.sum() == 3.5 && self.none.sum() == 0",
        "[duration('1m'), duration('1s')].sum() == duration('61s')",
        "self.numbers.min() == 1 && self.numbers.max() == 3 && self.texts.max() == 'c' && [1].min() == 1",
        "self.texts.indexOf('b') == 1 && self.texts.lastIndexOf('b') == 2 && self.none.indexOf('b') == -1",
        "[1.0].indexOf(1.1) == -1 && 'abcab'.indexOf('ab') == 0 && 'abcab'.lastIndexOf('ab') == 3",
        "sets.contains(self.texts, ['c', 'a']) && !sets.contains(self.texts, ['d']) && sets.contains([], [])",
        "sets.equivalent(self.texts, ['c', 'b', 'a']) && !sets.equivalent(self.texts, ['a'])",
        "sets.intersects(self.texts, ['x', 'c']) && !sets.intersects(self.texts, self.none)",
    ]);
    all_fail(&[
        ("self.none.min() == 'a'", "min called on empty list"),
        ("self.texts.sum() == 'abbc'", "only numbers and durations add up"),
        ("[{'a': 1}].isSorted()", "items of this type have no order"),
    ]);
}

#[test]
fn texts_are_searched_and_rewritten() {
    all_hold(&[
        "self.text.find('[0-9]+') == '123' && self.text.find('xyz') == ''",
        "self.text.findAll('[0-9]+') == ['123', '45'] && self.text.findAll('[0-9]+', 1) == ['123']",
        "self.text.findAll('[0-9]+', -1).size() == 2 && self.text.findAll('xyz') == [] && self.text.findAll('a', 0) == []",
        // A digit is one of ASCII's, as in Go.
        "self.text.matches('^abc \\\\d+') && !'٧'.matches('\\\\d') && matches(self.text, '[[]') == false",
        "self.text.charAt(1) == 'b' && self.text.substring(4, 7) == '123' && self.text.substring(8) == 'de 45'",
        "'TacoCat'.lowerAscii() == 'tacocat' && 'TacoCÆt'.upperAscii() == 'TACOCÆT' && '  a b '.trim() == 'a b'",
        "'hello hello'.replace('he', 'we') == 'wello wello' && 'hello hello'.replace('he', 'we', 1) == 'wello hello'",
        "self.text.split(' ').size() == 4 && 'a,b,c'.split(',', 2) == ['a', 'b,c'] && self.texts.join('-') == 'a-b-b-c'",
        "'%s has %d of %.1f'.format(['x', 2, 1.25]) == 'x has 2 of 1.2'",
    ]);
    all_fail(&[
        ("self.text.find(self.network + '[') == ''", "illegal pattern"),
        ("self.text.charAt(100) == ''", "out of range"),
    ]);
}

#[test]
fn quantities_are_amounts_however_they_are_written() {
    all_hold(&[
        "isQuantity('1.3G') && isQuantity('1.3Gi') && isQuantity('10000k') && isQuantity(self.small)",
        "!isQuantity('1,3G') && !isQuantity('200K') && !isQuantity('Three') && !isQuantity('Mi')",
        "quantity('200M').compareTo(quantity('0.2G')) == 0 && quantity('1Gi') == quantity('1024Mi')",
        "quantity(self.small).compareTo(quantity(self.large)) == -1 && quantity(self.large).compareTo(quantity(self.small)) == 1",
        "quantity(self.small).isLessThan(quantity(self.large)) && !quantity(self.small).isGreaterThan(quantity(self.large))",
        "quantity('50k').isInteger() && quantity('50k').asInteger() == 50000 && !quantity('50m').isInteger()",
        "quantity('50k').add(quantity('20k')) == quantity('70k') && quantity('50k').sub(20000) == quantity('30k')",
        "quantity('50k').add(20).sub(quantity('100k')).sub(-50000) == quantity('20')",
        "quantity('50k').sub(20000).asApproximateFloat() == 30000.0 && quantity('1500m').asApproximateFloat() == 1.5",
        "quantity('-1').sign() == -1 && quantity('0').sign() == 0 && quantity('1m').sign() == 1",
        "[quantity('1k'), quantity('2k')].exists(q, q == quantity('2000')) && quantity('1') != quantity('2')",
        "type(quantity('1')) == type(quantity('2'))",
    ]);
    all_fail(&[
        ("quantity('200K').sign() == 1", "\"200K\" is not a quantity"),
        ("quantity('50m').asInteger() == 0", "cannot convert value to integer"),
        ("quantity('9999999999G').asInteger() == 0", "cannot convert value to integer"),
    ]);
}

#[test]
fn addresses_and_networks_are_told_apart() {
    all_hold(&[
        "isIP('127.0.0.1') && isIP('::1') && isIP(self.address) && !isIP('127.0.0.256') && !isIP(':::1')",
        "!isIP('::ffff:1.2.3.4') && !isIP('fe80::1%eth0') && !isIP('127.0.0.01') && !isIP(self.network)",
        "ip.isCanonical('127.0.0.1') && ip.isCanonical(self.address) && !ip.isCanonical('2001:DB8::ABCD')",
        "!ip.isCanonical('2001:db8::0:0:0:abcd') && ip('2001:DB8::ABCD') == ip(self.address)",
        "ip('127.0.0.1').family() == 4 && ip(self.address).family() == 6 && string(ip('::0')) == '::'",
        "ip('0.0.0.0').isUnspecified() && ip('::').isUnspecified() && !ip('::1').isUnspecified()",
        "ip('127.0.0.1').isLoopback() && ip('::1').isLoopback() && !ip(self.address).isLoopback()",
        "ip('224.0.0.1').isLinkLocalMulticast() && !ip('224.0.1.1').isLinkLocalMulticast()",
        "ip('ff02::1').isLinkLocalMulticast() && !ip('fd00::1').isLinkLocalMulticast()",
        "ip('169.254.169.254').isLinkLocalUnicast() && ip('fe80::1').isLinkLocalUnicast()",
        "!ip('192.168.0.1').isLinkLocalUnicast() && !ip('fd80::1').isLinkLocalUnicast()",
        "ip('192.168.0.1').isGlobalUnicast() && ip(self.address).isGlobalUnicast()",
        "!ip('255.255.255.255').isGlobalUnicast() && !ip('ff00::1').isGlobalUnicast() && !ip('fe80::1').isGlobalUnicast()",
        "isCIDR(self.network) && isCIDR('::1/128') && !isCIDR('192.168.0.0/33') && !isCIDR('::1/129')",
        "!isCIDR('192.168.0.0') && !isCIDR('010.0.0.0/8') && !isCIDR('10.0.0.0/08') && !isCIDR('::ffff:1.2.3.4/24')",
        "cidr(self.network).containsIP('192.168.0.1') && !cidr(self.network).containsIP(ip('192.169.0.1'))",
        "!cidr(self.network).containsIP(self.address)",
        "cidr(self.network).containsCIDR('192.168.10.0/24') && !cidr(self.network).containsCIDR(cidr('192.0.0.0/8'))",
        "cidr('192.168.0.1/24').ip() == ip('192.168.0.1') && cidr('192.168.0.1/24').prefixLength() == 24",
        "cidr('192.168.0.1/24').masked() == cidr('192.168.0.0/24') && cidr('192.168.0.1/24').masked() != cidr('192.168.0.1/24')",
        "string(cidr('192.168.0.0/24')) == '192.168.0.0/24'",
    ]);
    all_fail(&[
        ("ip('127.0.0.256').family() == 4", "is not an IP address"),
        ("cidr(self.address).prefixLength() == 1", "is not a network in CIDR notation"),
        ("cidr(self.network).containsIP('x')", "is not an IP address"),
    ]);
}

#[test]
fn urls_are_taken_apart_as_go_does() {
    all_hold(&[
        "isURL(self.web) && isURL('/absolute-path') && isURL('mailto:a@b.c') && isURL('https://example.com')",
        "!isURL('../relative-path') && !isURL('example.com/x') && !isURL('') && !isURL('https://a:b:c/')",
        "!isURL('https://a b/') && !isURL('https://[::1/') && !isURL('/%zz') && !isURL(':x') && !isURL('https://h:p/')",
        "url(self.web).getScheme() == 'https' && url('/path').getScheme() == '' && url('HTTP://h').getScheme() == 'http'",
        "url(self.web).getHost() == 'example.com:8080' && url(self.web).getHostname() == 'example.com'",
        "url(self.web).getPort() == '8080' && url('https://example.com/').getPort() == ''",
        // A port is what is written, though it is the usual one.
        "url('https://example.com:443/').getPort() == '443' && url('https://example.com:443/').getHost() == 'example.com:443'",
        "url('https://[::1]:80/').getHost() == '[::1]:80' && url('https://[::1]:80/').getHostname() == '::1'",
        "url('https://[::1]/').getHost() == '[::1]' && url('https://[::1]/').getPort() == ''",
        "url('/path').getHost() == '' && url('/path').getHostname() == '' && url('/path').getPort() == ''",
        "url(self.web).getEscapedPath() == '/a%20b/c' && url('https://example.com').getEscapedPath() == ''",
        "url('https://example.com/path with spaces/').getEscapedPath() == '/path%20with%20spaces/'",
        "url('https://example.com/a(b)').getEscapedPath() == '/a(b)' && url('/é').getEscapedPath() == '/%C3%A9'",
        "url(self.web).getQuery() == {'k1': ['a'], 'k2': ['b', 'c d']}",
        "url('https://example.com/path?').getQuery() == {} && url('/path').getQuery() == {}",
        "url('/a?b=c') == url('/a?b=c') && url('/a') != url('/b')",
    ]);
    all_fail(&[("url(self.text).getHost() == ''", "invalid URI for request")]);
}

#[test]
fn formats_have_names() {
    all_hold(&[
        "!format.dns1123Label().validate('my-name').hasValue() && format.dns1123Label().validate('My.Name').hasValue()",
        "!format.dns1123Subdomain().validate('a.b').hasValue() && format.dns1035Label().validate('1a').hasValue()",
        "!format.qualifiedName().validate('example.com/name').hasValue() && !format.labelValue().validate('').hasValue()",
        "!format.dns1123LabelPrefix().validate('name-').hasValue() && format.dns1123Label().validate('name-').hasValue()",
        "!format.uri().validate(self.web).hasValue() && format.uri().validate('x y').hasValue()",
        "!format.uuid().validate('123e4567-e89b-12d3-a456-426614174000').hasValue() && format.uuid().validate('1').hasValue()",
        "!format.byte().validate('aGVsbG8=').hasValue() && !format.date().validate('2021-01-01').hasValue()",
        "!format.datetime().validate('2021-01-01T00:00:00Z').hasValue() && format.datetime().validate('now').hasValue()",
        "format.dns1123Label().validate('A').value()[0].startsWith('a lowercase RFC 1123 label')",
        "format.named('uuid').hasValue() && !format.named('other').hasValue()",
    ]);
}

#[test]
fn a_function_that_is_not_there_is_refused_with_the_definition() {
    for (rule, wanted) in [
        ("self.text.isUrl()", "undeclared reference to 'isUrl'"),
        ("isUrl(self.text)", "undeclared reference to 'isUrl'"),
        // There is one of this name, but of no value.
        ("self.web.isURL()", "undeclared reference to 'isURL'"),
        ("find(self.text, 'a') == ''", "undeclared reference to 'find'"),
        ("math.median(self.numbers) > 1", "undeclared reference to 'median'"),
        ("self.texts.all(t)", "undeclared reference to 'all'"),
        ("self.texts.all(t, t.semver() > 1)", "undeclared reference to 'semver'"),
        ("authorizer.group('').resource('pods').check('get').allowed()", "undeclared reference to 'authorizer'"),
        ("self.text.matches('[')", "\"[\" is not a regular expression"),
    ] {
        let found = words(structure::check(&super::schema(of(rule)), "s"));
        let place = "s.properties[a].x-kubernetes-validations[0].rule: Invalid value: ";
        assert!(found.iter().any(|w| w.starts_with(place) && w.contains(wanted)), "{rule}: {found:?}");
    }
    // What macros make, and operators, are no functions that anybody could have misspelt.
    all_hold(&[
        "math.greatest(1, 2, 3) == 3 && [3, 1].sortBy(n, n) == [1, 3] && optional.of(1).optMap(n, n + 1).value() == 2",
        "has(self.text) && self.numbers[0] == 3 && self.?text.orValue('') != '' && !(-1 in self.numbers)",
    ]);
}

fn all_hold(rules: &[&str]) {
    for rule in rules {
        assert_eq!(say(rule), None, "{rule}");
    }
}

fn all_fail(rules: &[(&str, &str)]) {
    for (rule, wanted) in rules {
        let found = say(rule).unwrap_or_default();
        assert!(found.starts_with("rule evaluation error: ") && found.contains(wanted), "{rule}: {found}");
    }
}

#[test]
fn a_function_over_a_list_costs_what_a_loop_costs() {
    let of = |rule: &str| ruled(json!({"type": "array", "items": {"type": "integer"}}), json!({ "rule": rule }));
    let many: Vec<i32> = (0..4_000).collect();
    for (rule, is_too_much) in [
        ("self.all(x, self.sum() > x)", true),
        ("self.all(x, x < 4000) && self.sum() > 0 && self.isSorted()", false),
        ("sets.contains(self, self)", true),
        ("self.all(x, string(x).matches('^[0-9]+$'))", false),
    ] {
        let found = broken(of(rule), json!(many), None);
        let told = found.first().is_some_and(|words| words.contains("running out of cost budget"));
        assert_eq!(told, is_too_much, "{rule}: {found:?}");
    }
}
