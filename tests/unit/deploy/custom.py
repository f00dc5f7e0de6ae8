"""Schemas of the custom resources in the manifests: the fields that Phoenix uses, and no others.

By the projects' own reference pages: External Secrets (external-secrets.io/v1), KEDA (keda.sh/v1alpha1),
cert-manager (cert-manager.io/v1).
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]
TEXT: Schema = {"type": "string", "minLength": 1}
COUNT: Schema = {"type": "integer", "minimum": 0}


def _object(required: dict[str, Schema], **optional: Schema) -> Schema:
    return {
        "type": "object",
        "properties": required | optional,
        "required": sorted(required),
        "additionalProperties": False,
    }


def _list(item: Schema) -> Schema:
    return {"type": "array", "items": item, "minItems": 1}


_POSTGRESQL = _object({"query": TEXT, "targetQueryValue": {"type": "string", "pattern": r"^\d+(\.\d+)?$"}})
_SCALING_POLICY = _object(
    {
        "type": {"enum": ["Percent", "Pods"]},
        "value": {"type": "integer", "minimum": 1},
        "periodSeconds": COUNT,
    }
)
_BEHAVIOR = _object(
    {}, scaleDown=_object({}, stabilizationWindowSeconds=COUNT, policies=_list(_SCALING_POLICY))
)

SPECS: dict[tuple[str, str], Schema] = {
    ("external-secrets.io/v1", "ExternalSecret"): _object(
        {
            "secretStoreRef": _object(
                {"kind": {"enum": ["SecretStore", "ClusterSecretStore"]}, "name": TEXT}
            ),
            "target": _object(
                {"name": TEXT},
                creationPolicy={"enum": ["Owner", "Orphan", "Merge", "None"]},
                deletionPolicy={"enum": ["Delete", "Merge", "Retain"]},
            ),
            "data": _list(_object({"secretKey": TEXT, "remoteRef": _object({"key": TEXT}, property=TEXT)})),
        },
        refreshInterval={"type": "string", "pattern": r"^\d+[smh]$"},
    ),
    ("keda.sh/v1alpha1", "ScaledObject"): _object(
        {
            "scaleTargetRef": _object({"name": TEXT}),
            "triggers": _list(
                _object(
                    {"type": {"const": "postgresql"}, "metadata": _POSTGRESQL},
                    authenticationRef=_object({"name": TEXT}),
                )
            ),
        },
        minReplicaCount=COUNT,
        maxReplicaCount=COUNT,
        pollingInterval=COUNT,
        cooldownPeriod=COUNT,
        fallback=_object({"failureThreshold": COUNT, "replicas": COUNT}),
        advanced=_object({}, horizontalPodAutoscalerConfig=_object({}, behavior=_BEHAVIOR)),
    ),
    ("keda.sh/v1alpha1", "TriggerAuthentication"): _object(
        {"secretTargetRef": _list(_object({"parameter": TEXT, "name": TEXT, "key": TEXT}))}
    ),
    ("cert-manager.io/v1", "Certificate"): _object(
        {
            "secretName": TEXT,
            "dnsNames": _list(TEXT),
            "issuerRef": _object({"kind": {"enum": ["Issuer", "ClusterIssuer"]}, "name": TEXT}),
        },
        privateKey=_object(
            {},
            algorithm={"enum": ["RSA", "ECDSA", "Ed25519"]},
            size=COUNT,
            rotationPolicy={"enum": ["Never", "Always"]},
        ),
    ),
}
