"""C++ for .proto files by the system's protoc.

One .proto gives one target. dw_proto_library holds messages only; dw_grpc_library adds the
services of the file, so that what includes a message does not link gRPC.
Imports are written from the root of the tree: import "proto/deltaworks/v1/job.proto".
"""

def dw_proto_library(name, src, deps = [], **kwargs):
    base = src[:-len(".proto")]
    native.filegroup(name = name + "_src", srcs = [src] + [d + "_src" for d in deps], visibility = kwargs.get("visibility"))
    native.genrule(
        name = name + "_gen",
        srcs = [":" + name + "_src"],
        outs = [base + ".pb.h", base + ".pb.cc"],
        cmd = "protoc -I. --cpp_out=$(GENDIR) " + native.package_name() + "/" + src,
    )
    native.cc_library(
        name = name,
        srcs = [base + ".pb.cc"],
        hdrs = [base + ".pb.h"],
        deps = deps + ["//bazel/system:protobuf"],
        **kwargs
    )

def dw_grpc_library(name, src, messages, **kwargs):
    """messages: the dw_proto_library of the same file."""
    base = src[:-len(".proto")]
    native.genrule(
        name = name + "_gen",
        srcs = [messages + "_src"],
        outs = [base + ".grpc.pb.h", base + ".grpc.pb.cc"],
        cmd = "protoc -I. --grpc_out=$(GENDIR) --plugin=protoc-gen-grpc=$$(which grpc_cpp_plugin) " +
              native.package_name() + "/" + src,
    )
    native.cc_library(
        name = name,
        srcs = [base + ".grpc.pb.cc"],
        hdrs = [base + ".grpc.pb.h"],
        deps = [messages, "//bazel/system:grpc"],
        **kwargs
    )
