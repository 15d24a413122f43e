// HostStream: what a cudaStream_t is to HostDevice and to test_nccl.cc, which is loaded at run time
// and shares nothing else with the program.

#ifndef DELTAWORKS_TRAINER_COMM_TESTING_HOST_STREAM_H_
#define DELTAWORKS_TRAINER_COMM_TESTING_HOST_STREAM_H_

namespace deltaworks::trainer {

class HostStream {
 public:
  // Calls run(argument) on the stream's thread, after everything that was enqueued before.
  virtual void Enqueue(void (*run)(void* argument), void* argument) = 0;

 protected:
  ~HostStream() = default;
};

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_COMM_TESTING_HOST_STREAM_H_
