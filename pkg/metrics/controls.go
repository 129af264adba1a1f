package metrics

import "github.com/collectord/collectord/pkg/control"

// publishControls publishes the metrics of the controls.
func publishControls(all []control.Status, publish publisher) {
	for _, c := range all {
		if c.State == control.Off {
			continue
		}
		labels := []string{c.ID, c.Category}
		if c.Known {
			publish(controlScore, c.Score, labels...)
		}
		publish(controlTarget, c.Target, labels...)
		publish(controlMinimum, c.Minimum, labels...)
		publish(controlWeight, c.Weight, labels...)
		publish(controlOK, c.OK, labels...)
		publish(controlTotal, float64(c.Total), labels...)
		publish(controlTime, timestamp(c.ControlResult.Measured), labels...)
		publish(controlDataTime, timestamp(c.Data), labels...)
		publish(controlFailed, boolValue(c.State == control.Failed), labels...)
	}
	for _, c := range control.ByCategory(all) {
		if c.Known {
			publish(categoryScore, c.Score.Score, c.Name)
		}
	}
	if overall, known := control.OverallScore(all); known {
		publish(controlsScore, overall.Score)
	}
}
