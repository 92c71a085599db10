"""Rendered manifests as Podman understands them: kube_for_podman.py BASE.yaml VALUES_DIR OUT_DIR, to OUT_DIR/play.yaml.

- Volumes of Secrets become directories with the same files: Podman 4.3 knows neither `items` nor base64 there.
- Ports of containers are left out: Podman would publish them on this machine, and two replicas cannot have the same.
- What is no workload is left out, and named on standard output.
"""

import pathlib
import sys

import yaml

TAKEN = {"ConfigMap", "Deployment"}


def main():
    base, values, out = (pathlib.Path(argument) for argument in sys.argv[1:])
    taken, left = [], set()
    for document in yaml.safe_load_all(base.read_text()):
        if document["kind"] not in TAKEN:
            left.add(document["kind"])
            continue
        taken.append(document)
        pod = document.get("spec", {}).get("template", {}).get("spec", {})
        for container in pod.get("containers", []):
            container.pop("ports", None)
        for volume in pod.get("volumes", []):
            if "secret" not in volume:
                continue
            files = out / "secrets" / document["metadata"]["name"] / volume["name"]
            files.mkdir(parents=True)
            for item in volume.pop("secret")["items"]:
                (files / item["path"]).write_bytes((values / item["key"].replace("-", "_")).read_bytes())
            volume["hostPath"] = {"path": str(files), "type": "Directory"}
    (out / "play.yaml").write_text(yaml.safe_dump_all(taken))
    print(", ".join(sorted(left)))


main()
