//! What NetworkPolicies of networking.k8s.io/v1 allow, as the API documents it: a pure function of policies and the two ends.
//!
//! Addresses are those after kube-proxy: of pods, not of Services. Where the API leaves a choice to network plugins, the wider reading
//! counts: a range of addresses that holds a pod's address allows that pod.

use k8s_openapi::api::networking::v1::{IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::BTreeMap;
use std::net::IpAddr;

pub type Labels = BTreeMap<String, String>;

/// A port of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    pub protocol: &'static str,
    pub number: u16,
}

/// A port that a container declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerPort {
    pub name: String,
    pub protocol: String,
    pub number: u16,
}

/// A pod with what policies see of it.
#[derive(Clone, Debug)]
pub struct Pod {
    pub namespace: String,
    pub namespace_labels: Labels,
    pub labels: Labels,
    pub address: IpAddr,
    pub ports: Vec<ContainerPort>,
}

/// One end of a connection.
#[derive(Clone, Copy, Debug)]
pub enum End<'a> {
    Pod(&'a Pod),
    /// Something that is no pod.
    Address(IpAddr),
    /// The node that the pod at the other end runs on: it starts and probes it.
    Node,
}

impl End<'_> {
    fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Pod(pod) => Some(pod.address),
            Self::Address(address) => Some(*address),
            Self::Node => None,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Ingress,
    Egress,
}

/// Whether a connection can be opened: the policies of both ends must allow it.
pub fn allowed(policies: &[NetworkPolicy], from: End<'_>, to: End<'_>, port: Port) -> bool {
    match (from, to) {
        // "Traffic to and from the node where a pod is running is always allowed"; "a pod cannot block access to itself".
        (End::Node, _) | (_, End::Node) => true,
        (End::Pod(one), End::Pod(other)) if one.address == other.address => true,
        _ => {
            side(policies, Direction::Egress, from, to, to, port)
                && side(policies, Direction::Ingress, to, from, to, port)
        }
    }
}

/// Whether the policies of one end, `own`, let it talk with `other`. A pod that no policy isolates in the direction may.
fn side(
    policies: &[NetworkPolicy],
    direction: Direction,
    own: End<'_>,
    other: End<'_>,
    destination: End<'_>,
    port: Port,
) -> bool {
    let End::Pod(pod) = own else { return true };
    let mut isolating = policies.iter().filter(|policy| selects(policy, pod) && affects(policy, direction)).peekable();
    if isolating.peek().is_none() {
        return true;
    }
    isolating.any(|policy| {
        rules(policy, direction)
            .any(|(peers, ports)| any_peer(policy, peers, other) && any_port(ports, destination, port))
    })
}

fn namespace(policy: &NetworkPolicy) -> &str {
    policy.metadata.namespace.as_deref().expect("a policy stands in a namespace")
}

fn selects(policy: &NetworkPolicy, pod: &Pod) -> bool {
    let spec = policy.spec.as_ref().expect("a policy has a spec");
    namespace(policy) == pod.namespace
        && spec.pod_selector.as_ref().is_none_or(|selector| matches(selector, &pod.labels))
}

/// Without policyTypes a policy affects ingress, and egress if it has egress rules.
fn affects(policy: &NetworkPolicy, direction: Direction) -> bool {
    let spec = policy.spec.as_ref().expect("a policy has a spec");
    let types = spec.policy_types.as_deref().unwrap_or_default();
    let named = |name: &str| types.iter().any(|given| given == name);
    match direction {
        Direction::Ingress => types.is_empty() || named("Ingress"),
        Direction::Egress if types.is_empty() => spec.egress.as_ref().is_some_and(|rules| !rules.is_empty()),
        Direction::Egress => named("Egress"),
    }
}

type Rule<'a> = (&'a [NetworkPolicyPeer], &'a [NetworkPolicyPort]);

/// Peers and ports of each rule of a direction.
fn rules(policy: &NetworkPolicy, direction: Direction) -> Box<dyn Iterator<Item = Rule<'_>> + '_> {
    let spec = policy.spec.as_ref().expect("a policy has a spec");
    match direction {
        Direction::Ingress => Box::new(
            spec.ingress
                .iter()
                .flatten()
                .map(|rule| (rule.from.as_deref().unwrap_or_default(), rule.ports.as_deref().unwrap_or_default())),
        ),
        Direction::Egress => Box::new(
            spec.egress
                .iter()
                .flatten()
                .map(|rule| (rule.to.as_deref().unwrap_or_default(), rule.ports.as_deref().unwrap_or_default())),
        ),
    }
}

/// No peers at all means everything.
fn any_peer(policy: &NetworkPolicy, peers: &[NetworkPolicyPeer], other: End<'_>) -> bool {
    peers.is_empty() || peers.iter().any(|peer| is_peer(policy, peer, other))
}

fn is_peer(policy: &NetworkPolicy, peer: &NetworkPolicyPeer, other: End<'_>) -> bool {
    if let Some(block) = &peer.ip_block {
        assert!(peer.pod_selector.is_none() && peer.namespace_selector.is_none(), "an ipBlock stands alone: {peer:?}");
        return other.address().is_some_and(|address| in_block(block, address));
    }
    let End::Pod(pod) = other else { return false };
    let here = if let Some(selector) = &peer.namespace_selector {
        matches(selector, &pod.namespace_labels)
    } else {
        assert!(peer.pod_selector.is_some(), "a peer names something: {peer:?}");
        namespace(policy) == pod.namespace
    };
    here && peer.pod_selector.as_ref().is_none_or(|selector| matches(selector, &pod.labels))
}

fn in_block(block: &IPBlock, address: IpAddr) -> bool {
    in_range(&block.cidr, address) && !block.except.iter().flatten().any(|range| in_range(range, address))
}

fn in_range(range: &str, address: IpAddr) -> bool {
    let (first, length) = range.split_once('/').expect("address/bits");
    let length: u32 = length.parse().expect("a number of bits");
    match (first.parse().expect("an address"), address) {
        (IpAddr::V4(first), IpAddr::V4(address)) => {
            let differs = first.to_bits() ^ address.to_bits();
            differs.leading_zeros() >= length
        }
        (IpAddr::V6(first), IpAddr::V6(address)) => {
            let differs = first.to_bits() ^ address.to_bits();
            differs.leading_zeros() >= length
        }
        _ => false,
    }
}

/// No ports at all means all of all protocols.
fn any_port(ports: &[NetworkPolicyPort], destination: End<'_>, port: Port) -> bool {
    ports.is_empty() || ports.iter().any(|rule| is_port(rule, destination, port))
}

fn is_port(rule: &NetworkPolicyPort, destination: End<'_>, port: Port) -> bool {
    let protocol = rule.protocol.as_deref().unwrap_or("TCP");
    let number = i32::from(port.number);
    protocol == port.protocol
        && match (&rule.port, rule.end_port) {
            (None, None) => true,
            (Some(IntOrString::Int(first)), None) => number == *first,
            (Some(IntOrString::Int(first)), Some(last)) => (*first..=last).contains(&number),
            // A name is one of the pod that is connected to, whichever side the policy is of.
            (Some(IntOrString::String(name)), None) => match destination {
                End::Pod(pod) => pod.ports.iter().any(|declared| {
                    declared.name == *name && declared.protocol == port.protocol && declared.number == port.number
                }),
                End::Address(_) | End::Node => false,
            },
            (_, Some(_)) => panic!("endPort stands beside a number: {rule:?}"),
        }
}

/// All of the selector's terms hold; an empty selector matches everything.
fn matches(selector: &LabelSelector, labels: &Labels) -> bool {
    let same = |(key, value): (&String, &String)| labels.get(key) == Some(value);
    selector.match_labels.iter().flatten().all(same)
        && selector.match_expressions.iter().flatten().all(|expression| holds(expression, labels))
}

fn holds(expression: &LabelSelectorRequirement, labels: &Labels) -> bool {
    let found = labels.get(&expression.key);
    let values = expression.values.as_deref().unwrap_or_default();
    match expression.operator.as_str() {
        "In" => found.is_some_and(|found| values.contains(found)),
        "NotIn" => found.is_none_or(|found| !values.contains(found)),
        "Exists" => found.is_some(),
        "DoesNotExist" => found.is_none(),
        other => panic!("operator {other}"),
    }
}
