"""Every kind that Headrace reads or writes. The operator's RBAC lists the same ones."""

from collections.abc import Mapping
from typing import Any

from headrace.kube.interface import Invalid, Kind, kind_of

INFERENCE_SERVICE = Kind("headrace.dev/v1alpha1", "InferenceService", "inferenceservices")

DEPLOYMENT = Kind("apps/v1", "Deployment", "deployments")
POD = Kind("v1", "Pod", "pods")
SERVICE = Kind("v1", "Service", "services")
CONFIG_MAP = Kind("v1", "ConfigMap", "configmaps")
SERVICE_ACCOUNT = Kind("v1", "ServiceAccount", "serviceaccounts")
ROLE = Kind("rbac.authorization.k8s.io/v1", "Role", "roles")
ROLE_BINDING = Kind("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings")
NETWORK_POLICY = Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
POD_DISRUPTION_BUDGET = Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
HORIZONTAL_POD_AUTOSCALER = Kind("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
# KEDA's: there only where KEDA is installed, so it is neither watched nor listed before it was found.
SCALED_OBJECT = Kind("keda.sh/v1alpha1", "ScaledObject", "scaledobjects")

LEASE = Kind("coordination.k8s.io/v1", "Lease", "leases")
EVENT = Kind("events.k8s.io/v1", "Event", "events")
NAMESPACE = Kind("v1", "Namespace", "namespaces", namespaced=False)
NODE = Kind("v1", "Node", "nodes", namespaced=False)
SECRET = Kind("v1", "Secret", "secrets")
CUSTOM_RESOURCE_DEFINITION = Kind(
    "apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False
)
ACCESS_REVIEW = Kind("authorization.k8s.io/v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", namespaced=False)

# What an InferenceService owns, in the order in which a pass lists and applies it: identity and configuration before
# the workloads that need them.
CHILD_KINDS = (
    SERVICE_ACCOUNT,
    ROLE,
    ROLE_BINDING,
    CONFIG_MAP,
    SERVICE,
    NETWORK_POLICY,
    POD_DISRUPTION_BUDGET,
    DEPLOYMENT,
    HORIZONTAL_POD_AUTOSCALER,
)
ALL_KINDS = (
    INFERENCE_SERVICE,
    *CHILD_KINDS,
    SCALED_OBJECT,
    POD,
    SECRET,
    LEASE,
    EVENT,
    NAMESPACE,
    NODE,
    CUSTOM_RESOURCE_DEFINITION,
    ACCESS_REVIEW,
)
_BY_NAME = {(kind.api_version, kind.kind): kind for kind in ALL_KINDS}


def lookup(manifest: Mapping[str, Any]) -> Kind:
    """The Kind of a manifest; Invalid for one that is not in this table."""
    name = kind_of(manifest)
    try:
        return _BY_NAME[name]
    except KeyError:
        raise Invalid(f"{name[1]} ({name[0]}) is not a kind that Headrace manages") from None
