// TrainingCheck: whether a train spec can work, before anybody waits for it (ValidateTraining).
//
// A spec that cannot work is an answer with `failure`; what cannot be answered now (a base that is
// still imported, a disk that does not read) is an error, and asked again. Thread-safe.

#ifndef DELTAWORKS_SERVICES_STORE_TRAINING_CHECK_H_
#define DELTAWORKS_SERVICES_STORE_TRAINING_CHECK_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/deltaworks/v1/store_service.pb.h"
#include "services/store/base_models.h"
#include "services/store/dataset_texts.h"
#include "services/store/datasets.h"

namespace deltaworks::services {

class TrainingCheck {
 public:
  // All must outlive this.
  TrainingCheck(Datasets& datasets, BaseModels& base_models, DatasetTexts& texts,
                TextModels& text_models)
      : datasets_(datasets), base_models_(base_models), texts_(texts), text_models_(text_models) {}

  absl::StatusOr<v1::ValidateTrainingResponse> Validate(const std::string& tenant,
                                                        const v1::ValidateTrainingRequest& request);

 private:
  // One train spec on its way through the checks. Each returns OK, or an error of ours, or sets
  // response.failure.
  struct Case {
    std::string tenant;
    int gang_size = 1;
    v1::BaseModel base_model;
    v1::Dataset dataset;
    v1::Dataset validation;  // Without a name: none.
    v1::DatasetReport report;
    v1::DatasetReport validation_report;
    v1::ValidateTrainingResponse response;

    bool failed() const { return response.has_failure(); }
  };

  absl::Status Fill(Case& c);
  absl::Status FindBase(Case& c);
  absl::Status FindDataset(Case& c, const std::string& name, const std::string& field,
                           v1::Dataset& dataset);
  void ResolveSettings(Case& c);
  absl::Status ReadData(Case& c, const v1::Dataset& dataset, const std::string& field,
                        v1::DatasetReport& report);
  absl::Status Count(Case& c);

  Datasets& datasets_;
  BaseModels& base_models_;
  DatasetTexts& texts_;
  TextModels& text_models_;
};

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_STORE_TRAINING_CHECK_H_
