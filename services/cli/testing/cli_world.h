// CliWorld: whole command lines of dw against services in memory.
//
// Fill() gives tenant "default" one of everything: base model "smollm2", dataset "notes", job
// "job-7" (SUCCEEDED), adapter "notes" with version 1 and alias "champion", a worker, a quota, a
// day of usage, an inference service that answers; and the files that examples need.
// Thread-compatible.

#ifndef DELTAWORKS_SERVICES_CLI_TESTING_CLI_WORLD_H_
#define DELTAWORKS_SERVICES_CLI_TESTING_CLI_WORLD_H_

#include <map>
#include <string>
#include <vector>

#include "services/base/clock.h"
#include "services/cli/command.h"
#include "services/cli/dw.h"
#include "services/clients/fake_inference_client.h"
#include "services/clients/fake_operator_client.h"
#include "services/clients/fake_registry_client.h"
#include "services/clients/fake_store_client.h"
#include "services/clients/fake_training_client.h"

namespace deltaworks::services {

class CliWorld {
 public:
  // `name` of the folder that the world's files are in, empty at first.
  explicit CliWorld(const std::string& name);

  void Fill();

  struct Result {
    int code = -1;
    std::string out, err;
  };
  // One run of `dw` with these words; "{}" in a word is the folder.
  Result Run(std::vector<std::string> words);

  std::string Path(const std::string& file) const { return folder_ + "/" + file; }

  // ---- What a test may change between runs ----
  FakeTrainingClient training;
  // What commands get: `training`, or one that a test put around it.
  TrainingClient* training_client = &training;
  FakeOperatorClient operators{training.workers};
  FakeStoreClient store;
  FakeRegistryClient registry;
  FakeInferenceClient inference;
  FakeClock clock;
  // Of the process; HOME is the folder.
  std::map<std::string, std::string> environment;
  std::string input;      // Standard input.
  bool terminal = false;  // Of `out`.
  bool err_terminal = false;
  // False: the clients are those of the real platform, for which there is no client file.
  bool up = true;
  std::string interrupt_note;
  // Called for every wait besides the clock's advance.
  std::function<void()> while_asleep;

 private:
  void FillStore();
  void FillJob();
  void FillRegistry();
  void FillInference();
  void FillOperators();

  const std::string folder_;
};

// A watch of job-7 from its creation to its end: two evaluations and `steps` losses.
std::vector<v1::WatchJobResponse> WatchOfJob(const v1::Job& job, int steps);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLI_TESTING_CLI_WORLD_H_
