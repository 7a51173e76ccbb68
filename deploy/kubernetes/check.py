#!/usr/bin/env python3
"""Checks the manifests of this folder: against the schemas of Kubernetes, and for what the schemas cannot say.

Needs kubernetes-validate, which brings the schemas: pip install kubernetes-validate. Exit code 1 where something is
wrong, with a line for each."""

import pathlib
import sys

import kubernetes_validate
import yaml

# Each workload with the capabilities that it may have: what is not listed here is a mistake.
CAPABILITIES = {
    "receiver": [],
    "sender": ["IPC_LOCK"],
    "sink": ["SYS_ADMIN", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "PERFMON"],
}


def problems(manifests):
    """A line for each thing that is wrong with the manifests of one file."""
    pods = {}
    for manifest in manifests:
        name = f"{manifest.get('kind')}/{manifest.get('metadata', {}).get('name')}"
        try:
            kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"{name}: {'.'.join(map(str, error.path))}: {error.message}"
            continue
        if manifest["kind"] in ("Deployment", "Job"):
            pods[name] = manifest["spec"]["template"]
            yield from wrong_with_pod(name, manifest["metadata"]["name"], manifest["spec"]["template"]["spec"])
            selector = manifest["spec"].get("selector", {}).get("matchLabels", {})
            if not selects(selector, pods[name]):
                yield f"{name}: its selector does not select its own pods"
    for manifest in manifests:
        name, spec = f"{manifest['kind']}/{manifest['metadata']['name']}", manifest["spec"]
        selector = {
            "Service": lambda: spec["selector"],
            "NetworkPolicy": lambda: spec["podSelector"]["matchLabels"],
        }.get(manifest["kind"])
        if selector and not any(selects(selector(), pod) for pod in pods.values()):
            yield f"{name}: selects no pod of this file"


def selects(labels, pod):
    return labels.items() <= pod["metadata"]["labels"].items()


def wrong_with_pod(name, workload, pod):
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(key):
            yield f"{name}: {key}"
    if pod.get("automountServiceAccountToken") is not False:
        yield f"{name}: the pod has a token of the service account"
    if pod.get("securityContext", {}).get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield f"{name}: the seccomp profile is not RuntimeDefault"
    for container in pod.get("initContainers", []) + pod["containers"]:
        limits, requests = (container["resources"].get(key, {}) for key in ("limits", "requests"))
        if limits != requests or set(limits) < {"cpu", "memory"}:
            yield f"{name}: requests are not equal to limits of cpu and memory: the quality of service is not Guaranteed"
        if not str(limits.get("cpu", "")).isdigit():
            yield f"{name}: {limits.get('cpu')} CPUs are not a whole number: the static policy gives it none of its own"
        context = container["securityContext"]
        if context.get("privileged"):
            yield f"{name}: privileged"
        if not context.get("readOnlyRootFilesystem"):
            yield f"{name}: the root file system can be written"
        capabilities = context.get("capabilities", {})
        if capabilities.get("drop") != ["ALL"]:
            yield f"{name}: not all capabilities are dropped first"
        if sorted(capabilities.get("add", [])) != sorted(CAPABILITIES[workload]):
            yield f"{name}: adds {capabilities.get('add')}, and may add {CAPABILITIES[workload]}"


def main():
    folder = pathlib.Path(__file__).parent
    files = [pathlib.Path(name) for name in sys.argv[1:]] or sorted(folder.glob("*.yaml"))
    found = [
        f"{file}: {problem}" for file in files for problem in problems(list(yaml.safe_load_all(file.read_text())))
    ]
    print("\n".join(found) if found else f"{len(files)} files: nothing is wrong")
    return 1 if found or not files else 0


if __name__ == "__main__":
    sys.exit(main())
