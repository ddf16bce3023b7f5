//! Tests of models that need what is private to the crate.

use super::*;
use crate::checkpoint::StoredTensor;

/// One tensor of integers, read as indices by one layer and as a weight by another.
#[test]
fn integer_weights_become_floats_where_a_layer_wants_them() {
    let bytes: Vec<u8> = [1i32, 0].iter().flat_map(|x| x.to_le_bytes()).collect();
    let tensor = StoredTensor::from_bytes(DType::I32, [1, 2], bytes).unwrap();
    let model = Model::from_fn(&Device::cpu(), move |graph: &mut Graph, x: &[Var]| {
        let weight = graph.float_parameter("weight", &tensor)?;
        let indices = graph.parameter("weight", &tensor)?;
        Ok(vec![graph.linear(x[0], weight, None)?, graph.embedding(indices, x[0])?, graph.relu(weight)?])
    });
    let y = model.run(&[Tensor::new([2, 2], [1f32, 2., 3., 4.]).unwrap()]).unwrap();
    assert_eq!(y[0].as_slice::<f32>().unwrap(), [1., 3.]);
    assert_eq!(y[1].as_slice::<f32>().unwrap(), [3., 4., 1., 2.]);
    assert_eq!(y[2].as_slice::<f32>().unwrap(), [1., 0.]);
}

/// A device that is lost in the middle is an error; opened again, it gives the same answer.
#[cfg(feature = "gpu")]
#[test]
fn a_lost_device_is_opened_again() {
    use crate::device::tests::expect_adapters;
    use crate::device::{DeviceInfo, DeviceKind, Kind};
    // So many ones that the device is busy for a while.
    let ones = 1f32.to_le_bytes().repeat(512 * 512);
    let weight = StoredTensor::from_bytes(DType::F32, [512, 512], ones).unwrap();
    let x = Tensor::new([2048, 512], vec![1f32; 2048 * 512]).unwrap();
    let is_right = |y: &[Tensor]| y[0].as_slice::<f32>().unwrap().iter().all(|&y| y == 512.0);
    let usable = |info: &DeviceInfo| info.kind != DeviceKind::Cpu && info.unsupported.is_none();
    let adapters: Vec<DeviceInfo> = Device::list().into_iter().filter(usable).collect();
    expect_adapters(adapters.len());
    for info in adapters {
        let device = Device::open(&info.name).unwrap();
        let weight = weight.clone();
        let mut model = Model::from_fn(&device, move |graph: &mut Graph, x: &[Var]| {
            let weight = graph.float_parameter("weight", &weight)?;
            Ok(vec![graph.linear(x[0], weight, None)?])
        });
        let inputs = std::slice::from_ref(&x);
        assert!(is_right(&model.run(inputs).unwrap()));
        let Kind::Gpu(gpu) = device.kind() else { panic!("{device} is a GPU") };
        let run = model.run_async(inputs);
        gpu.device().destroy();
        // wgpu ends what it was given before, and then says that the device is lost.
        assert!(gpu.wait(None).is_err());
        assert_eq!(pollster::block_on(run).unwrap_err().kind(), crate::ErrorKind::Device);
        assert_eq!(model.run(inputs).unwrap_err().kind(), crate::ErrorKind::Device);
        model.to(&Device::open(&info.name).unwrap());
        assert!(is_right(&model.run(inputs).unwrap()));
        model.to(&Device::cpu());
        assert!(is_right(&model.run(inputs).unwrap()));
    }
}
