"""What people do with the official Python client, against the cluster of $KUBECONFIG. Fails with the first surprise."""

import datetime
import json

from kubernetes import client, config, dynamic, stream, watch
from kubernetes.client.rest import ApiException
from kubernetes.utils import create_from_dict

SPACE = "python"
IMAGE = "skiff/demo"


def refused(status, reason, call):
    try:
        call()
    except ApiException as error:
        assert error.status == status and f'"reason":"{reason}"' in error.body.replace(" ", ""), error
        return error
    raise AssertionError(f"it was taken, and not refused with {status} {reason}")


def the_server():
    assert "+skiff." in client.VersionApi().get_code().git_version
    assert "apps" in [group.name for group in client.ApisApi().get_api_versions().groups]
    spec = client.V1SelfSubjectAccessReviewSpec(
        resource_attributes=client.V1ResourceAttributes(verb="delete", resource="nodes")
    )
    review = client.AuthorizationV1Api().create_self_subject_access_review(client.V1SelfSubjectAccessReview(spec=spec))
    assert review.status.allowed
    nodes = client.CoreV1Api().list_node().items
    assert [c.status for c in nodes[0].status.conditions if c.type == "Ready"] == ["True"]


def plain_objects(core):
    core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=SPACE)))
    for i in range(5):
        meta = client.V1ObjectMeta(generate_name="map-", labels={"i": str(i)})
        core.create_namespaced_config_map(SPACE, client.V1ConfigMap(metadata=meta, data={"i": str(i)}))
    first = core.list_namespaced_config_map(SPACE, label_selector="i", limit=2)
    assert len(first.items) == 2 and first.metadata._continue, first.metadata
    rest = core.list_namespaced_config_map(SPACE, label_selector="i", _continue=first.metadata._continue)
    assert len(rest.items) == 3 and rest.metadata.resource_version == first.metadata.resource_version
    one = core.list_namespaced_config_map(SPACE, label_selector="i=3").items[0]
    changed = core.patch_namespaced_config_map(one.metadata.name, SPACE, {"data": {"i": None, "j": "4"}})
    assert changed.data == {"j": "4"}
    refused(409, "Conflict", lambda: core.replace_namespaced_config_map(one.metadata.name, SPACE, one))
    refused(404, "NotFound", lambda: core.read_namespaced_config_map("none", SPACE))
    refused(422, "Invalid", lambda: core.create_namespaced_config_map(SPACE, {"metadata": {"name": "No Name"}}))
    gone = core.delete_collection_namespaced_config_map(SPACE, label_selector="i")
    assert gone.kind is None or gone.kind.endswith("List"), gone.kind
    assert core.list_namespaced_config_map(SPACE, label_selector="i").items == []


def watching(core):
    since = core.list_namespaced_config_map(SPACE).metadata.resource_version
    core.create_namespaced_config_map(SPACE, {"metadata": {"name": "seen"}})
    core.patch_namespaced_config_map("seen", SPACE, {"data": {"a": "b"}})
    core.delete_namespaced_config_map("seen", SPACE)
    seen = []
    follow = watch.Watch()
    for event in follow.stream(core.list_namespaced_config_map, SPACE, resource_version=since, timeout_seconds=30):
        if event["object"].metadata.name == "seen":
            seen.append(event["type"])
        if len(seen) == 3:
            follow.stop()
    assert seen == ["ADDED", "MODIFIED", "DELETED"], seen
    # A revision of which nothing is known any more ends in the error that informers look for.
    error = refused(504, "Timeout", lambda: core.list_namespaced_config_map(SPACE, resource_version="99999999"))
    assert "Too large resource version" in error.body, error.body


def workloads(core):
    apps = client.AppsV1Api()
    labels = {"app": "py"}
    container = client.V1Container(
        name="main", image=IMAGE, args=["front"], ports=[client.V1ContainerPort(container_port=8080)]
    )
    template = client.V1PodTemplateSpec(
        metadata=client.V1ObjectMeta(labels=labels), spec=client.V1PodSpec(containers=[container])
    )
    spec = client.V1DeploymentSpec(replicas=1, selector=client.V1LabelSelector(match_labels=labels), template=template)
    apps.create_namespaced_deployment(
        SPACE, client.V1Deployment(metadata=client.V1ObjectMeta(name="py"), spec=spec)
    )
    apps.patch_namespaced_deployment_scale("py", SPACE, {"spec": {"replicas": 2}})
    assert apps.read_namespaced_deployment_scale("py", SPACE).spec.replicas == 2
    ready = watch.Watch()
    for event in ready.stream(apps.list_namespaced_deployment, SPACE, timeout_seconds=90):
        if event["object"].status.ready_replicas == 2:
            ready.stop()
    pods = core.list_namespaced_pod(SPACE, label_selector="app=py", field_selector="status.phase=Running").items
    assert len(pods) == 2, [pod.status.phase for pod in pods]
    return pods[0].metadata.name


def streams(core, pod):
    assert "serving on" in core.read_namespaced_pod_log(pod, SPACE, tail_lines=5)
    command = ["/demo", "env"]
    told = stream.stream(
        core.connect_get_namespaced_pod_exec, pod, SPACE, command=command, stdout=True, stderr=True
    )
    assert "KUBERNETES_SERVICE_HOST=10." in told, told
    ends = stream.stream(
        core.connect_get_namespaced_pod_exec, pod, SPACE, command=["/demo", "exit", "7"], _preload_content=False
    )
    ends.run_forever(timeout=30)
    assert ends.returncode == 7, ends.returncode
    copies = stream.stream(
        core.connect_get_namespaced_pod_exec,
        pod,
        SPACE,
        command=["/demo", "copy"],
        stdin=True,
        stdout=True,
        stderr=False,
        tty=False,
        _preload_content=False,
    )
    for word in ["one", "two"]:
        copies.write_stdin(word + "\n")
        assert copies.readline_stdout(timeout=30) == word
    copies.close()
    forward = stream.portforward(core.connect_get_namespaced_pod_portforward, pod, SPACE, ports="8080")
    socket = forward.socket(8080)
    socket.sendall(b"GET /healthz HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n")
    socket.settimeout(30)
    answer = b"".join(iter(lambda: socket.recv(1024), b""))
    assert answer.startswith(b"HTTP/1.1 200"), answer
    assert forward.error(8080) is None, forward.error(8080)


def recorded(pod):
    """What a controller's recorder writes, in the group that it looks for."""
    events = client.EventsV1Api()
    about = client.V1ObjectReference(kind="Pod", namespace=SPACE, name=pod)
    events.create_namespaced_event(
        SPACE,
        client.EventsV1Event(
            metadata=client.V1ObjectMeta(generate_name="seen-"),
            event_time=datetime.datetime.now(datetime.timezone.utc),
            reporting_controller="python",
            reporting_instance="python-0",
            action="Looking",
            reason="Seen",
            type="Normal",
            note="seen by Python",
            regarding=about,
        ),
    )
    told = events.list_namespaced_event(SPACE, field_selector=f"regarding.name={pod},reason=Seen").items
    assert [event.note for event in told] == ["seen by Python"], told
    told = client.CoreV1Api().list_namespaced_event(SPACE, field_selector=f"involvedObject.name={pod},reason=Seen").items
    assert [event.message for event in told] == ["seen by Python"], told


def who_holds(token):
    """A client that shows a token, and no certificate."""
    known = client.Configuration.get_default_copy()
    shows = client.Configuration(host=known.host, api_key={"authorization": token})
    shows.api_key_prefix["authorization"] = "Bearer"
    shows.ssl_ca_cert = known.ssl_ca_cert
    return client.CoreV1Api(client.ApiClient(shows))


def tokens(core):
    core.create_namespaced_service_account(SPACE, {"metadata": {"name": "reader"}})
    asked = client.AuthenticationV1TokenRequest(
        spec=client.V1TokenRequestSpec(audiences=[], expiration_seconds=600)
    )
    token = core.create_namespaced_service_account_token("reader", SPACE, asked).status.token
    review = client.V1TokenReview(spec=client.V1TokenReviewSpec(token=token))
    told = client.AuthenticationV1Api().create_token_review(review).status
    assert told.authenticated and told.user.username == f"system:serviceaccount:{SPACE}:reader", told
    reader = who_holds(token)
    refused(403, "Forbidden", lambda: reader.list_namespaced_pod(SPACE))
    client.RbacAuthorizationV1Api().create_namespaced_role_binding(
        SPACE,
        {
            "metadata": {"name": "reader"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
            "subjects": [{"kind": "ServiceAccount", "name": "reader", "namespace": SPACE}],
        },
    )
    assert reader.list_namespaced_pod(SPACE).items
    refused(403, "Forbidden", lambda: reader.list_namespaced_secret(SPACE))
    refused(401, "Unauthorized", lambda: who_holds(token[:-4] + "AAAA").list_namespaced_pod(SPACE))


def kinds_of_ones_own():
    group, plural = "python.example.com", "snakes"
    schema = {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "required": ["length"],
                "properties": {
                    "length": {"type": "integer", "minimum": 1},
                    "colour": {"type": "string", "default": "green"},
                },
            },
            "status": {"type": "object", "properties": {"asleep": {"type": "boolean"}}},
        },
    }
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}},
    }
    names = {"plural": plural, "singular": "snake", "kind": "Snake"}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [version]},
    }
    kinds = client.ApiextensionsV1Api()
    kinds.create_custom_resource_definition(definition)
    established = watch.Watch()
    for event in established.stream(
        kinds.list_custom_resource_definition, field_selector=f"metadata.name={plural}.{group}", timeout_seconds=30
    ):
        conditions = event["object"].status and event["object"].status.conditions or []
        if any(c.type == "Established" and c.status == "True" for c in conditions):
            established.stop()
    snakes = client.CustomObjectsApi()
    where = (group, "v1", SPACE, plural)
    body = {"apiVersion": f"{group}/v1", "kind": "Snake", "metadata": {"name": "kaa"}, "spec": {"length": 9}}
    made = snakes.create_namespaced_custom_object(*where, body)
    assert made["spec"] == {"length": 9, "colour": "green"}, made
    body["metadata"]["name"] = "short"
    body["spec"]["length"] = 0
    refused(422, "Invalid", lambda: snakes.create_namespaced_custom_object(*where, body))
    snakes.patch_namespaced_custom_object_status(*where, "kaa", {"status": {"asleep": True}, "spec": {"length": 1}})
    kaa = snakes.get_namespaced_custom_object(*where, "kaa")
    assert kaa["status"] == {"asleep": True} and kaa["spec"]["length"] == 9, kaa
    assert [one["metadata"]["name"] for one in snakes.list_namespaced_custom_object(*where)["items"]] == ["kaa"]
    kinds.delete_custom_resource_definition(f"{plural}.{group}")
    gone = watch.Watch()
    for event in gone.stream(kinds.list_custom_resource_definition, timeout_seconds=30):
        if event["type"] == "DELETED":
            gone.stop()
    try:
        snakes.list_namespaced_custom_object(*where)
    except ApiException as error:
        assert error.status == 404, error
    else:
        raise AssertionError("the kind is gone, and still served")


def by_discovery():
    api = client.ApiClient()
    maps = dynamic.DynamicClient(api).resources.get(api_version="v1", kind="ConfigMap")
    document = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "dynamic"}, "data": {"a": "1"}}
    create_from_dict(api, document, namespace=SPACE)
    assert maps.get(name="dynamic", namespace=SPACE).data.a == "1"
    maps.patch(
        body={"data": {"a": "2"}}, name="dynamic", namespace=SPACE, content_type="application/merge-patch+json"
    )
    document["data"] = {"b": "3"}
    # This client sends what is not JSON only when it is text already.
    applied = maps.server_side_apply(
        body=json.dumps(document), name="dynamic", namespace=SPACE, field_manager="py", force_conflicts=True
    )
    assert applied.to_dict()["data"] == {"a": "2", "b": "3"}, applied.data
    maps.delete(name="dynamic", namespace=SPACE, body=client.V1DeleteOptions(propagation_policy="Foreground"))


def leaving(core):
    core.delete_namespace(SPACE)
    gone = watch.Watch()
    for event in gone.stream(core.list_namespace, field_selector=f"metadata.name={SPACE}", timeout_seconds=90):
        if event["type"] == "DELETED":
            gone.stop()
    refused(404, "NotFound", lambda: core.read_namespace(SPACE))


def main():
    config.load_kube_config()
    core = client.CoreV1Api()
    the_server()
    plain_objects(core)
    watching(core)
    pod = workloads(core)
    streams(core, pod)
    recorded(pod)
    tokens(core)
    kinds_of_ones_own()
    by_discovery()
    leaving(core)
    print("all is well")


main()
