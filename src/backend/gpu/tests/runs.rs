//! Runs that overlap, that are polled, and whose tensors stay on the device.

use std::sync::Arc;

use super::on_every_gpu;
use crate::backend::gpu::{Plan, Weights, to_device, to_host};
use crate::backend::lowered::schedule_of;
use crate::backend::resident::Resident;
use crate::backend::{Started, cases};
use crate::device::gpu::{Gpu, GpuOptions};
use crate::device::tests::on_every_new_gpu;
use crate::dtype::DType;
use crate::error::ErrorKind;
use crate::graph::step::Kernel;
use crate::tensor::Tensor;

fn image(scale: f32) -> Tensor {
    let data: Vec<f32> = (0..3 * 32 * 32).map(|i| ((i * 37 % 101) as f32 / 50.0 - 1.0) * scale).collect();
    Tensor::new([1, 3, 32, 32], data).unwrap()
}

fn resnet(gpu: &Arc<Gpu>) -> Plan {
    Plan::new(&schedule_of("resnet18", 32), &mut Weights::new(gpu)).unwrap()
}

#[test]
fn two_runs_may_be_under_way() {
    on_every_gpu(GpuOptions::default(), |gpu| {
        let mut plan = resnet(gpu);
        let (a, b) = ([image(1.0)], [image(-2.0)]);
        let alone = [plan.run(&a).unwrap(), plan.run(&b).unwrap()].map(|mut outputs| outputs.remove(0));
        assert_ne!(alone[0].bytes(), alone[1].bytes());
        for turn in 0..3 {
            let counts = gpu.account().counts();
            let (first, second) = (plan.start(&a).unwrap(), plan.start(&b).unwrap());
            // The later one is asked for first.
            let second = second.wait().unwrap();
            let first = pollster::block_on(Started::Running(first)).unwrap();
            assert_eq!(first[0].bytes(), alone[0].bytes());
            assert_eq!(second[0].bytes(), alone[1].bytes());
            let after = gpu.account().counts();
            assert_eq!(after.submits, counts.submits + 2);
            // The second lane is made once.
            assert_eq!(after.buffers - counts.buffers, if turn == 0 { 2 } else { 0 });
        }
        // A run whose result nobody wants does no harm.
        drop(plan.start(&b).unwrap());
        assert_eq!(plan.run(&a).unwrap()[0].bytes(), alone[0].bytes());
    });
}

/// A future is told when it is done, and only then has to be looked at.
#[test]
fn futures_do_not_wait() {
    use std::sync::mpsc;
    use std::task::{Context, Poll, Wake, Waker};
    struct Tell(mpsc::Sender<()>);
    impl Wake for Tell {
        fn wake(self: Arc<Self>) {
            self.0.send(()).ok();
        }
    }
    on_every_gpu(GpuOptions::default(), |gpu| {
        let mut plan = resnet(gpu);
        let want = plan.run(&[image(1.0)]).unwrap();
        let (sender, receiver) = mpsc::channel();
        let waker = Waker::from(Arc::new(Tell(sender)));
        let mut runs: Vec<_> = (0..4).map(|_| plan.start(&[image(1.0)]).unwrap()).collect();
        let mut pending = 0;
        for run in &mut runs {
            let mut result = run.poll(&Context::from_waker(&waker));
            while result.is_pending() {
                pending += 1;
                receiver.recv_timeout(std::time::Duration::from_secs(60)).expect("the waker is called");
                result = run.poll(&Context::from_waker(&waker));
            }
            let Poll::Ready(outputs) = result else { unreachable!() };
            assert_eq!(outputs.unwrap()[0].bytes(), want[0].bytes());
        }
        assert!(pending > 0, "the first of four runs was done before it was asked for");
    });
}

/// The device goes while it is at work on runs: whoever waits for one of them or polls it gets an error.
#[test]
fn a_future_on_a_lost_device_fails() {
    on_every_new_gpu(GpuOptions::default(), |gpu| {
        let mut plan = resnet(gpu);
        let [polled, waited] = [1.0, 2.0].map(|scale| plan.start(&[image(scale)]).unwrap());
        gpu.device().destroy();
        // wgpu ends what it was given before, and then says that the device is lost.
        assert_eq!(gpu.wait(None).unwrap_err().kind(), ErrorKind::Device);
        assert_eq!(pollster::block_on(Started::Running(polled)).unwrap_err().kind(), ErrorKind::Device);
        assert_eq!(waited.wait().unwrap_err().kind(), ErrorKind::Device);
        assert_eq!(plan.start(&[image(1.0)]).err().map(|error| error.kind()), Some(ErrorKind::Device));
    });
}

fn resident(gpu: &Gpu, tensor: &Tensor) -> Resident {
    let dtype = if tensor.dtype().is_float() { DType::F32 } else { DType::I64 };
    let buffer = to_device(gpu, tensor.bytes()).unwrap();
    Resident { dtype, shape: tensor.shape().clone(), buffer, half: false }
}

#[test]
fn tensors_stay_on_the_device() {
    on_every_gpu(GpuOptions::default(), |gpu| {
        let mut plan = resnet(gpu);
        let x = image(1.0);
        let want = plan.run(std::slice::from_ref(&x)).unwrap().remove(0);
        let held = gpu.account().memory().total();
        let on_device = resident(gpu, &x);
        let submits = gpu.account().counts().submits;
        let outputs = plan.run_resident(&[&on_device]).unwrap();
        assert_eq!(gpu.account().counts().submits, submits + 1);
        // The same input again, and another run after it, before the first output is read.
        plan.run_resident(&[&on_device]).unwrap();
        plan.run(&[image(3.0)]).unwrap();
        assert_eq!(to_host(gpu, &outputs[0]).unwrap(), want.bytes());
        let wrong = resident(gpu, &Tensor::zeros(DType::F32, [1, 3, 32, 31]));
        assert_eq!(plan.run_resident(&[&wrong]).err().unwrap().kind(), ErrorKind::Shape);
        assert_eq!(plan.run_resident(&[]).err().unwrap().kind(), ErrorKind::Shape);
        drop((on_device, outputs, wrong));
        assert_eq!(gpu.account().memory().total(), held);
    });
}

/// An index that is out of range is an error here too.
#[test]
fn indices_on_the_device_are_checked() {
    on_every_gpu(GpuOptions::default(), |gpu| {
        let all = cases::all();
        let is_plain = |case: &&cases::Case| matches!(case.kernel, Kernel::Embedding { outer: 1, count: 2.., .. });
        let case = all.iter().find(is_plain).expect("an embedding case");
        let Kernel::Embedding { rows, .. } = case.kernel else { unreachable!() };
        let mut plan = Plan::new(&case.schedule(), &mut Weights::new(gpu)).unwrap();
        let tensors = case.tensors();
        let words = |tensor: &Tensor| {
            let ints: Vec<i32> = tensor.to_i64().unwrap().into_iter().map(|x| x as i32).collect();
            Tensor::new(tensor.shape().clone(), ints).unwrap()
        };
        let mut inputs: Vec<Resident> = tensors
            .iter()
            .map(|tensor| if tensor.dtype().is_float() { resident(gpu, tensor) } else { resident(gpu, &words(tensor)) })
            .collect();
        plan.run_resident(&inputs.iter().collect::<Vec<_>>()).unwrap();
        let bad = vec![rows as i32; tensors[0].shape().numel()];
        inputs[0] = resident(gpu, &Tensor::new(tensors[0].shape().clone(), bad).unwrap());
        let error = plan.run_resident(&inputs.iter().collect::<Vec<_>>()).err().unwrap();
        assert!(
            error.to_string().contains(" is out of range, expected 0..") && error.kind() == ErrorKind::Shape,
            "{error}"
        );
    });
}
