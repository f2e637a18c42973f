"""The files that put a service on a cluster."""

from __future__ import annotations

import pytest
import yaml
from pydantic import BaseModel
from ray.serve.schema import ServeDeploySchema

from salver import Service, deployment
from salver.cluster.manifests import Pods, as_yaml, ray_job, ray_service, serve_config
from salver.cluster.replica import Assignment
from salver.errors import ConfigError
from salver.options import ServerSettings


class Row(BaseModel):
    text: str


@deployment(input=Row)
class Model:
    def __init__(self, checkpoint=None):
        pass

    def __call__(self, batch):
        return {"prediction": batch["text"]}


@deployment
async def both(rows: list[Row], first, second):
    return await first(rows)


FIRST = Model.options(name="First", num_cpus=2, request_timeout_s=50).bind()
SECOND = Model.options(
    name="Second", num_gpus=0.5, autoscaling_config={"min_replicas": 2, "max_replicas": 6}
).bind()
SERVICE = Service(both.bind(FIRST, SECOND))
RESOLVED = {
    "First": {
        "0": {"path": "/home/me/cache/ab", "digest": "ab", "source": "runs:/1/checkpoint"},
        "1": {"path": "/srv/model", "digest": "cd", "source": "file:///srv/model"},
    }
}
ASSIGNMENT = Assignment(
    "service:service",
    {"First": {"num_replicas": 3}, "Second": {}, "both": {}},
    RESOLVED,
    {"api_key": "secret", "max_rows": 10},
    ("/home/me/project",),
)
SETTINGS = ServerSettings(port=8001)
PODS = Pods("tagger", "registry.example/tagger:1", "2Gi")


def test_ray_takes_the_serve_config():
    """Read again from YAML, by Ray's own schema, with the options that are in force."""
    text = as_yaml(serve_config(SERVICE, ASSIGNMENT, SETTINGS))
    config = ServeDeploySchema(**yaml.safe_load(text))
    (application,) = config.applications
    assert ("salver", "/", "salver.cluster.serve:build") == (
        application.name,
        application.route_prefix,
        application.import_path,
    )
    by_name = {one.name: one for one in application.deployments}
    assert {"First", "Second", "salver-ingress"} == set(by_name)
    assert 3 == by_name["First"].num_replicas
    assert 55.0 == config.http_options.request_timeout_s
    assert ("127.0.0.1", 8001) == (config.http_options.host, config.http_options.port)


def test_nothing_of_this_machine_and_no_secret_is_written():
    """What a registry has is fetched again; a folder must be where the service runs."""
    text = as_yaml(serve_config(SERVICE, ASSIGNMENT, SETTINGS))
    assert "secret" not in text
    assert "/home/me" not in text
    (application,) = yaml.safe_load(text)["applications"]
    found = Assignment.from_json(application["args"])
    assert {"path": "", "digest": "ab", "source": "runs:/1/checkpoint"} == found.resolved["First"][
        "0"
    ]
    assert "/srv/model" == found.resolved["First"]["1"]["path"]
    assert {"max_rows": 10} == found.server
    assert {"num_replicas": 3} == found.overrides["First"]


def test_a_ray_service_holds_the_config_and_room_for_it():
    """A worker has room for one replica of each model, and there are as many as replicas."""
    manifest = yaml.safe_load(as_yaml(ray_service(SERVICE, ASSIGNMENT, SETTINGS, PODS)))
    assert ("ray.io/v1", "RayService", "tagger") == (
        manifest["apiVersion"],
        manifest["kind"],
        manifest["metadata"]["name"],
    )
    ServeDeploySchema(**yaml.safe_load(manifest["spec"]["serveConfigV2"]))
    cluster = manifest["spec"]["rayClusterConfig"]
    assert cluster["enableInTreeAutoscaling"]
    (workers,) = cluster["workerGroupSpecs"]
    assert (3, 3, 6) == (workers["replicas"], workers["minReplicas"], workers["maxReplicas"])
    (container,) = workers["template"]["spec"]["containers"]
    assert {"cpu": "3", "memory": "2Gi", "nvidia.com/gpu": "1"} == container["resources"]["limits"]
    assert container["securityContext"]["runAsNonRoot"]
    assert ":8001/-/healthz" in container["readinessProbe"]["exec"]["command"][-1]
    (key,) = [e for e in container["env"] if e["name"] == "SALVER_API_KEY"]
    assert {"name": "salver", "key": "api-key", "optional": True} == key["valueFrom"][
        "secretKeyRef"
    ]


def test_a_ray_job_predicts_a_file_and_ends():
    """With the room that its models need, and no face."""
    paths = ("s3://bucket/it's rows.parquet", "/out")
    job = ray_job(SERVICE, ASSIGNMENT, PODS, deployment=None, paths=paths)
    assert "RayJob" == job["kind"]
    assert job["spec"]["shutdownAfterJobFinishes"]
    assert (
        "salver predict service:service 's3://bucket/it'\"'\"'s rows.parquet' /out --engine ray "
        "--address auto --deployment both --resume --set First.num_replicas=3"
    ) == job["spec"]["entrypoint"]
    (workers,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    (container,) = workers["template"]["spec"]["containers"]
    assert "/-/healthz" not in container["readinessProbe"]["exec"]["command"][-1]


@pytest.mark.parametrize("name", ["", "Tagger", "-a", "a-", "a_b", "a" * 43, "1a"])
def test_a_name_that_kubernetes_refuses_is_refused_here(name):
    """Before a cluster says it less clearly."""
    with pytest.raises(ConfigError, match="lower-case"):
        Pods(name, "image")
