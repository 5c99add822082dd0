"""What of KEDA's objects (`keda.sh/v1alpha1`) is used here, as a JSON schema; anything else is a mistake.

Written after https://keda.sh/docs/latest/reference/scaledobject-spec and its neighbours scaledjob-spec and prometheus.
"""


def closed(required, **properties):
    return {
        "type": "object",
        "required": required,
        "properties": properties,
        "additionalProperties": False,
    }


COUNT = {"type": "integer", "minimum": 0}
TEXT = {"type": "string", "minLength": 1}
META = {"type": "object", "required": ["name", "namespace"]}
TRIGGER = closed(
    ["type", "metadata"],
    type={"const": "prometheus"},
    name=TEXT,
    metricType={"enum": ["AverageValue", "Value"]},
    # Every value of a trigger is a string.
    metadata=closed(
        ["serverAddress", "query", "threshold"],
        serverAddress={"type": "string", "pattern": "^https?://"},
        query=TEXT,
        threshold={"type": "string", "pattern": r"^\d+(\.\d+)?$"},
        activationThreshold={"type": "string", "pattern": r"^\d+(\.\d+)?$"},
    ),
)
POLICY = closed(
    ["type", "value", "periodSeconds"],
    type={"enum": ["Pods", "Percent"]},
    value={"type": "integer", "minimum": 1},
    periodSeconds={"type": "integer", "minimum": 1, "maximum": 1800},
)
SCALED_OBJECT = closed(
    ["scaleTargetRef", "triggers"],
    scaleTargetRef=closed(["name"], name=TEXT, kind=TEXT, apiVersion=TEXT),
    pollingInterval=COUNT,
    cooldownPeriod=COUNT,
    minReplicaCount=COUNT,
    maxReplicaCount={"type": "integer", "minimum": 1},
    fallback=closed(["failureThreshold", "replicas"], failureThreshold=COUNT, replicas=COUNT),
    advanced=closed(
        [],
        horizontalPodAutoscalerConfig=closed(
            [],
            behavior=closed(
                [],
                scaleDown=closed(
                    [],
                    stabilizationWindowSeconds={"type": "integer", "minimum": 0, "maximum": 3600},
                    policies={"type": "array", "items": POLICY, "minItems": 1},
                ),
            ),
        ),
    ),
    triggers={"type": "array", "items": TRIGGER, "minItems": 1},
)
SCALED_JOB = closed(
    ["jobTargetRef", "triggers"],
    jobTargetRef={"type": "object", "required": ["template"]},  # a JobSpec: validated as one
    pollingInterval=COUNT,
    maxReplicaCount={"type": "integer", "minimum": 1},
    successfulJobsHistoryLimit=COUNT,
    failedJobsHistoryLimit=COUNT,
    rollout=closed(["strategy"], strategy={"enum": ["default", "gradual"]}),
    triggers={"type": "array", "items": TRIGGER, "minItems": 1},
)
SCHEMAS = {
    kind: closed(
        ["apiVersion", "kind", "metadata", "spec"],
        apiVersion={"const": "keda.sh/v1alpha1"},
        kind={"const": kind},
        metadata=META,
        spec=spec,
    )
    for kind, spec in (("ScaledObject", SCALED_OBJECT), ("ScaledJob", SCALED_JOB))
}
