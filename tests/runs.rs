//! Runs that overlap, and tensors that stay on a device, on every device of the machine.

mod common;

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use common::{devices, made_input, made_state_dict};
use sconce::nn::Module;
use sconce::{DType, DeviceTensor, ErrorKind, Graph, Model, Precision, Result, Strict, Tensor, Var, models};

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls a future whenever it asks for it.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

fn resnet(device: &sconce::Device) -> Model {
    let mut net = models::resnet18();
    net.load_state_dict(&made_state_dict(&net, 0.8), Strict::Yes).unwrap();
    Model::new(net, device).unwrap()
}

#[test]
fn runs_may_be_awaited() {
    for device in devices() {
        let model = resnet(device);
        model.warmup(&[([1, 3, 32, 32].into(), DType::F32)]).unwrap();
        let inputs: Vec<Tensor> = [1.0, 2.0, 3.0].map(|scale| made_input([1, 3, 32, 32], scale)).into();
        let runs: Vec<_> = inputs.iter().map(|x| model.run_async(std::slice::from_ref(x))).collect();
        for (x, run) in inputs.iter().zip(runs) {
            let want = model.run(std::slice::from_ref(x)).unwrap();
            assert_eq!(block_on(run).unwrap()[0].bytes(), want[0].bytes(), "{device}");
        }
        // A future does not need its model any more, and says what is wrong as `run` does.
        let run = model.run_async(&inputs[..1]);
        let wrong = model.run_async(&[]);
        drop(model);
        assert_eq!(block_on(run).unwrap()[0].shape().to_vec(), [1, 1000]);
        assert_eq!(block_on(wrong).unwrap_err().kind(), ErrorKind::Shape);
    }
}

/// One model's outputs are the next one's inputs, on the device, several of them and of both kinds.
#[test]
fn tensors_pass_between_models_on_the_device() -> Result<()> {
    for device in devices() {
        let first = Model::from_fn(device, |g: &mut Graph, x: &[Var]| Ok(vec![g.relu(x[0])?, g.exp(x[0])?]));
        let second = Model::from_fn(device, |g: &mut Graph, x: &[Var]| Ok(vec![g.sub(x[1], x[0])?]));
        let host = Tensor::new([2, 3], [-1f32, 0., 1., 2., -3., 0.5])?;
        let x = DeviceTensor::new(&host, device)?;
        assert_eq!((x.shape().to_vec(), x.dtype()), (vec![2, 3], DType::F32));
        let middle = first.run_on_device(std::slice::from_ref(&x))?;
        let y = second.run_on_device(&middle)?.remove(0).to_tensor()?;
        let want = second.run(&first.run(std::slice::from_ref(&host))?)?;
        assert_eq!(y.as_slice::<f32>()?, want[0].as_slice::<f32>()?, "{device}");
        assert_eq!(x.to_tensor()?.as_slice::<f32>()?, host.as_slice::<f32>()?);
        let integers = Tensor::new([3], [1i64, -2, i64::from(i32::MAX)])?;
        let there = DeviceTensor::new(&integers, device)?;
        assert_eq!(there.to_tensor()?.as_slice::<i64>()?, integers.as_slice::<i64>()?);
        for other in devices().iter().filter(|other| other.is_cpu() != device.is_cpu()) {
            let elsewhere = DeviceTensor::new(&host, other)?;
            assert_eq!(first.run_on_device(&[elsewhere]).unwrap_err().kind(), ErrorKind::Device);
        }
    }
    Ok(())
}

/// A model that computes in halves gives its tensors to one that does not, and takes them.
#[test]
fn precisions_meet_on_the_device() -> Result<()> {
    for device in devices().iter().filter(|device| !device.is_cpu()) {
        let double = || Model::from_fn(device, |g: &mut Graph, x: &[Var]| Ok(vec![g.add(x[0], x[0])?]));
        let half = double().with_precision(Precision::Half);
        let host = Tensor::new([5], [0.1f32, -2., 3., 1000., 0.])?;
        match half.run(std::slice::from_ref(&host)) {
            Err(error) if error.kind() == ErrorKind::Unsupported => continue,
            result => result?,
        };
        let x = DeviceTensor::new(&host, device)?;
        let halves = half.run_on_device(std::slice::from_ref(&x))?;
        let near = half::f16::from_f32(0.1).to_f32();
        assert_eq!(halves[0].to_tensor()?.as_slice::<f32>()?, [2. * near, -4., 6., 2000., 0.]);
        let y = double().run_on_device(&halves)?;
        assert_eq!(y[0].to_tensor()?.as_slice::<f32>()?, [4. * near, -8., 12., 4000., 0.]);
        let y = half.run_on_device(&y)?;
        assert_eq!(y[0].to_tensor()?.as_slice::<f32>()?, [8. * near, -16., 24., 8000., 0.]);
    }
    Ok(())
}
