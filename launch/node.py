"""Prints the id of this machine's Ray node, for `ray drain-node`."""

from __future__ import annotations


def main() -> None:
    import ray

    ray.init(address="auto", logging_level="ERROR")
    print(ray.get_runtime_context().get_node_id())


if __name__ == "__main__":
    main()
