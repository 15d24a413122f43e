#include "tests/simulation/store_link.h"

#include <memory>
#include <vector>

#include "services/base/random_id.h"

namespace deltaworks::simulation {
namespace {

using services::BlobCalls;
using services::Caller;

const Caller& Platform() {
  static const Caller caller = {services::kAllTenants};
  return caller;
}

// Of a stream, so that one can be cut.
constexpr size_t kPieceBytes = 256;

// As WithRequestId of the real clients.
template <typename Request>
Request WithRequestId(Request request) {
  if (request.request_id().empty()) request.set_request_id(services::RandomHexId());
  return request;
}

}  // namespace

template <typename Response>
absl::StatusOr<Response> StoreLink::Ask(
    std::function<absl::StatusOr<Response>(StoreProcess&)> serve, bool repeat, bool drops_pin) {
  if (around) around(/*after=*/false, drops_pin);
  absl::StatusOr<Response> answer =
      repeat ? CallWithRepeats<Response, StoreProcess>(caller_, network_, address_, kStore, store_,
                                                       serve)
             : Call<Response, StoreProcess>(caller_, network_, address_, kStore, store_, serve);
  if (around) around(/*after=*/true, drops_pin);
  return answer;
}

absl::StatusOr<v1::Upload> StoreLink::CreateUpload(const v1::CreateUploadRequest& request) {
  return Ask<v1::Upload>([request = WithRequestId(request)](StoreProcess& store) {
    return store.calls().CreateUpload(Platform(), request);
  });
}

absl::StatusOr<v1::Upload> StoreLink::GetUpload(const std::string& name) {
  v1::GetUploadRequest request;
  request.set_name(name);
  return Ask<v1::Upload>(
      [request](StoreProcess& store) { return store.calls().GetUpload(Platform(), request); });
}

absl::StatusOr<v1::Upload> StoreLink::WriteUpload(const std::string& name, int64_t offset,
                                                  const Source& source) {
  auto messages = std::make_shared<std::vector<v1::WriteUploadRequest>>();
  for (std::string piece;;) {
    if (absl::Status status = source(offset, piece); !status.ok()) return status;
    if (piece.empty() && !messages->empty()) break;
    for (size_t begin = 0; begin == 0 || begin < piece.size(); begin += kPieceBytes) {
      v1::WriteUploadRequest& message = messages->emplace_back();
      if (messages->size() == 1) message.set_name(name);
      message.set_offset(offset);
      message.set_data(piece.substr(begin, kPieceBytes));
      offset += static_cast<int64_t>(message.data().size());
    }
    if (piece.empty()) break;
  }
  const bool cut = network_.random().Chance(cut_rate);
  if (cut) {
    messages->resize(1 + network_.random().Below(static_cast<int64_t>(messages->size())));
  }
  absl::StatusOr<v1::Upload> upload = Ask<v1::Upload>(
      [messages](StoreProcess& store) {
        size_t next = 0;
        return store.calls().WriteUpload(Platform(), [&](v1::WriteUploadRequest& message) {
          if (next == messages->size()) return false;
          message = (*messages)[next++];
          return true;
        });
      },
      /*repeat=*/false);
  if (cut) return absl::UnavailableError("simulated: the stream was cut");
  return upload;
}

absl::StatusOr<v1::FindMissingBlobsResponse> StoreLink::FindMissingBlobs(
    const v1::FindMissingBlobsRequest& request) {
  return Ask<v1::FindMissingBlobsResponse>([request](StoreProcess& store) {
    return store.calls().FindMissingBlobs(Platform(), request);
  });
}

absl::Status StoreLink::ReadBlob(const v1::ReadBlobRequest& request, const Sink& sink) {
  const absl::StatusOr<std::string> bytes = Ask<std::string>(
      [request](StoreProcess& store) -> absl::StatusOr<std::string> {
        std::string data;
        const absl::Status status =
            store.calls().ReadBlob(Platform(), request, [&](const v1::ReadBlobResponse& piece) {
              data += piece.data();
              return true;
            });
        if (!status.ok()) return status;
        return data;
      },
      /*repeat=*/false);
  return bytes.ok() ? sink(*bytes) : bytes.status();
}

absl::StatusOr<v1::Manifest> StoreLink::GetManifest(const v1::GetManifestRequest& request) {
  return Ask<v1::Manifest>(
      [request](StoreProcess& store) { return store.calls().GetManifest(Platform(), request); });
}

absl::StatusOr<v1::ReportCorruptBlobResponse> StoreLink::ReportCorruptBlob(
    const v1::ReportCorruptBlobRequest& request) {
  return Ask<v1::ReportCorruptBlobResponse>(
      [request = WithRequestId(request)](StoreProcess& store) {
        return store.calls().ReportCorruptBlob(Platform(), request);
      });
}

absl::StatusOr<v1::Pin> StoreLink::CreatePin(const v1::CreatePinRequest& request) {
  return Ask<v1::Pin>([request = WithRequestId(request)](StoreProcess& store) {
    return store.calls().CreatePin(Platform(), request);
  });
}

absl::Status StoreLink::DeletePin(const v1::DeletePinRequest& request) {
  return Ask<bool>(
             [request = WithRequestId(request)](StoreProcess& store) -> absl::StatusOr<bool> {
               const absl::Status status = store.calls().DeletePin(Platform(), request);
               if (!status.ok()) return status;
               return true;
             },
             /*repeat=*/true, /*drops_pin=*/true)
      .status();
}

absl::StatusOr<v1::ListPinsResponse> StoreLink::ListPins(const v1::ListPinsRequest& request) {
  return Ask<v1::ListPinsResponse>(
      [request](StoreProcess& store) { return store.calls().ListPins(Platform(), request); });
}

absl::StatusOr<v1::BaseModel> StoreLink::GetBaseModel(const std::string& name) {
  return Ask<v1::BaseModel>([name](StoreProcess& store) { return store.GetBaseModel(name); });
}

absl::StatusOr<v1::ValidateTrainingResponse> StoreLink::ValidateTraining(
    const v1::ValidateTrainingRequest& request) {
  return Ask<v1::ValidateTrainingResponse>(
      [request](StoreProcess& store) { return store.ValidateTraining(request); });
}

}  // namespace deltaworks::simulation
