#include "scheduler/version_request.h"

#include "scheduler/job_record.h"

namespace deltaworks::scheduler {

bool WantsVersion(const JobRecord& record) {
  return StateOf(record) == v1::FINALIZING && record.missing_blobs().empty();
}

v1::CreateVersionRequest MakeVersionRequest(const JobRecord& record) {
  const v1::Job& job = record.job();
  const v1::JobStatus& status = job.status();
  v1::CreateVersionRequest request;
  request.set_parent(job.train().adapter());
  request.set_request_id(record.result_attempt_id());

  v1::AdapterVersion& version = *request.mutable_adapter_version();
  version.mutable_source()->set_job(job.name());
  version.mutable_source()->set_result(true);
  version.set_manifest_digest(status.result().manifest_digest());
  version.set_base_model(job.train().base_model());
  version.set_dataset(job.train().dataset());
  version.set_dataset_manifest_digest(status.facts().dataset_manifest_digest());
  *version.mutable_spec() = job.train();
  version.set_trainable_parameters(status.facts().trainable_parameters());
  version.set_exact(status.exact());
  version.set_build_version(record.result_build_version());
  v1::MetricPoint& last = *version.mutable_metrics();
  last.set_step(status.result().step());
  last.set_loss(status.result().loss());
  last.set_tokens(status.progress().tokens());
  if (status.progress().eval_loss() != 0) last.set_eval_loss(status.progress().eval_loss());
  return request;
}

}  // namespace deltaworks::scheduler
