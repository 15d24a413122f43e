"""A client that knows only server reflection: no file of the contract, no generated code.

It asks the scheduler what it serves, submits a job, watches it to its end, and cancels another one,
all with messages made from what reflection told. Prints one line for each thing that held; an
AssertionError ends it with status 1.
"""

import json
import os

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from grpc_reflection.v1alpha import proto_reflection_descriptor_database

SERVICE = "deltaworks.v1.TrainingService"
TIMEOUT_S = 60
FINAL = ("SUCCEEDED", "FAILED", "CANCELLED")


class Client:
    """Calls rpcs of one service by name, with requests as dictionaries."""

    def __init__(self, address, token, service):
        self._channel = grpc.insecure_channel(address)
        self._metadata = [("authorization", f"Bearer {token}")]
        self.database = proto_reflection_descriptor_database.ProtoReflectionDescriptorDatabase(
            self._channel)
        self._pool = descriptor_pool.DescriptorPool(self.database)
        self._service = self._pool.FindServiceByName(service)

    def methods(self):
        return {method.name for method in self._service.methods}

    def call(self, name, request):
        """The answer as a dictionary, or an iterator of them."""
        method = self._service.methods_by_name[name]
        message = json_format.ParseDict(
            request, message_factory.GetMessageClass(method.input_type)(),
            descriptor_pool=self._pool)
        make = (self._channel.unary_stream if method.server_streaming
                else self._channel.unary_unary)
        rpc = make(f"/{self._service.full_name}/{name}",
                   request_serializer=lambda m: m.SerializeToString(),
                   response_deserializer=message_factory.GetMessageClass(
                       method.output_type).FromString)
        answer = rpc(message, metadata=self._metadata, timeout=TIMEOUT_S)
        if method.server_streaming:
            return (self._to_dict(response) for response in answer)
        return self._to_dict(answer)

    def _to_dict(self, message):
        return json_format.MessageToDict(message, preserving_proto_field_name=True,
                                         descriptor_pool=self._pool)


def job_request(tenant, job_id, max_steps):
    return {
        "parent": f"tenants/{tenant}",
        "job_id": job_id,
        "job": {"train": {
            "base_model": f"tenants/{tenant}/baseModels/tiny",
            "dataset": f"tenants/{tenant}/datasets/pairs",
            "lora": {"rank": 4},
            "arguments": {"max_steps": str(max_steps), "learning_rate": 1e-3},
            "text": {"max_length": 128},
        }},
    }


def watch(client, name, until):
    """Watches until the job is in a state of `until`, or final and all of it was sent.

    Returns the job as seen last, all events and all metric points.
    """
    events, points = [], []
    for response in client.call("WatchJob", {"name": name}):
        events += response.get("events", [])
        points += response.get("metrics", [])
        job = response["job"]
        state = job["status"]["state"]
        if state in until and state not in FINAL:
            break
    return job, events, points


def main():
    with open(os.environ["DELTAWORKS_E2E_PLATFORM"], encoding="utf-8") as file:
        platform = json.load(file)
    tenant = platform["tenant"]
    client = Client(platform["services"]["scheduler"]["address"], platform["token"], SERVICE)

    served = set(client.database.get_services())
    assert {SERVICE, "deltaworks.v1.WorkerService", "grpc.health.v1.Health"} <= served, served
    assert {"CreateJob", "WatchJob", "CancelJob"} <= client.methods(), client.methods()
    print("reflection tells the services and their rpcs")

    job = client.call("CreateJob", job_request(tenant, "reflected", 30))
    job, events, points = watch(client, job["name"], ("SUCCEEDED",))
    assert job["status"]["state"] == "SUCCEEDED", job
    assert [int(event["seq"]) for event in events] == list(range(1, len(events) + 1)), events
    assert [int(point["step"]) for point in points] == list(range(1, 31)), points
    assert job["status"]["result"]["version"].endswith("/versions/1"), job
    print("a job was submitted and watched to its end")

    job = client.call("CreateJob", job_request(tenant, "endless", 100_000_000))
    watch(client, job["name"], ("RUNNING",))
    client.call("CancelJob", {"name": job["name"]})
    job, events, _ = watch(client, job["name"], ("CANCELLED",))
    assert job["status"]["state"] == "CANCELLED", job
    assert events[-1]["state"] == "CANCELLED", events[-1]
    print("a running job was cancelled")

    wrong = job_request(tenant, "wrong", 1)
    wrong["job"]["train"]["lora"]["rank"] = 0
    details = refusal(client, wrong)
    assert "rank" in details and "0" in details, details
    print(f"rank 0 was refused: {details}")


def refusal(client, request):
    """What CreateJob says to a request that it must refuse as INVALID_ARGUMENT."""
    try:
        job = client.call("CreateJob", request)
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error
        return error.details()
    raise AssertionError(f"it was accepted: {job}")


if __name__ == "__main__":
    main()
