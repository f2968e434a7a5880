package hedge_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/storage/objstore/hedge"
)

func TestMeterLearnsBySize(t *testing.T) {
	var m hedge.Meter
	_, ok := m.Delay(1000)
	require.False(t, ok, "nothing is saved yet")
	for i := range 128 {
		took := 30 * time.Millisecond
		if i%10 == 0 {
			took = time.Second
		}
		m.Took(1000, took)
		m.Took(8<<20, 300*time.Millisecond)
	}
	small, ok := m.Delay(1000)
	require.True(t, ok)
	require.Equal(t, time.Second, small, "one in ten is slower than one in twenty may be")
	large, _ := m.Delay(9 << 20)
	require.Equal(t, 300*time.Millisecond, large)
	other, _ := m.Delay(64 << 20)
	require.Equal(t, 2*time.Second, other, "of a size never seen")
	for range 128 {
		m.Took(1000, time.Millisecond)
	}
	small, _ = m.Delay(1000)
	require.Equal(t, 20*time.Millisecond, small, "a store that is fast is not asked twice for a hiccup of our own")
}

func TestMeterSavesBeforeItSpends(t *testing.T) {
	var m hedge.Meter
	for range 10 {
		require.False(t, m.Take())
		m.Took(1, time.Millisecond)
	}
	m.Took(1, time.Millisecond) // a tenth is no exact fraction
	require.True(t, m.Take(), "one in ten")
	require.False(t, m.Take())
	for range 1000 {
		m.Took(1, time.Millisecond)
	}
	for range 5 {
		require.True(t, m.Take())
	}
	require.False(t, m.Take(), "savings are bounded")
	for range 1000 {
		m.Took(1, time.Millisecond)
	}
	m.Failed()
	require.False(t, m.Take(), "nothing after a failure")
}
